"""The parts of a policy that is merged from several files, and the place of a contradiction between two of them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from aegis.errors import PolicyError
from aegis.policy.policy import Policy
from aegis.policy.reader import policy_of
from aegis.policy.toml_lines import ValuePath
from aegis.policy.toml_table import PolicyText

__all__ = ["PolicyPart", "contradiction", "table_pieces"]


class PolicyPart(NamedTuple):
    """One policy file: its text and values, and the policy that it states without the files that it includes."""

    text: PolicyText
    values: Mapping[str, Any]
    policy: Policy


def table_pieces(table: Mapping[str, Any]) -> Iterator[tuple[ValuePath, dict[str, Any]]]:
    """Split a capability's table into pieces that are valid by themselves: list items, entries, and all scalars."""
    scalars = {key: value for key, value in table.items() if not isinstance(value, (list, dict))}
    if scalars:
        yield tuple(scalars) if len(scalars) == 1 else (), scalars
    for key, value in table.items():
        if isinstance(value, list):
            yield from (((key, number), {key: [item]}) for number, item in enumerate(value))
        elif isinstance(value, dict):
            yield from (((key, name), {key: {name: item}}) for name, item in value.items())


def contradiction(earlier: Sequence[PolicyPart], later: PolicyPart, error: PolicyError) -> PolicyError:
    """Return ``error``, of merging ``later`` with the ``earlier`` parts, with the places of both statements.

    A statement that is added removes no contradiction, so the first contradicting one is found by bisection.
    """
    before = Policy()
    for part in earlier:
        before = before.merged(part.policy)
    ours = list(_pieces(later))
    number = bisect_left(range(len(ours)), True, key=lambda n: _fault(before, later, ours[: n + 1]) is not None)
    if number == len(ours):
        return PolicyError(error.reason, source=later.text.source)
    path, _ = ours[number]
    here = _policy(later, [ours[number]])
    for part in earlier:
        theirs = list(_pieces(part))
        other = bisect_left(range(len(theirs)), True, key=lambda n: _fault(here, part, theirs[: n + 1]) is not None)
        if other < len(theirs):
            place = PolicyError("", source=part.text.source, line=part.text.line(theirs[other][0]))
            reason = f"{error.reason}; the other is at {str(place).removesuffix(': ')}"
            return PolicyError(reason, source=later.text.source, line=later.text.line(path))
    return PolicyError(error.reason, source=later.text.source, line=later.text.line(path))


_Piece = tuple[ValuePath, dict[str, Any]]


def _pieces(part: PolicyPart) -> Iterator[_Piece]:
    """Yield the statements of a file that can contradict others, each with its path and as a file of its own."""
    for key, value in part.values.get("isolation", {}).items():
        yield ("isolation", key), {"isolation": {key: value}}
    for name, table in part.values.get("capabilities", {}).items():
        for path, piece in table_pieces(table):
            yield ("capabilities", name, *path), {"capabilities": {name: piece}}


def _policy(part: PolicyPart, pieces: Sequence[_Piece]) -> Policy:
    return policy_of(_joined([values for _, values in pieces]), part.text)


def _fault(other: Policy, part: PolicyPart, pieces: Sequence[_Piece]) -> PolicyError | None:
    """Return the error of merging some statements of a file with another policy, ``None`` if they fit."""
    try:
        other.merged(_policy(part, pieces))
    except PolicyError as error:
        return error
    return None


def _joined(pieces: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the tables of several pieces as one: lists are concatenated, tables are joined."""
    joined: dict[str, Any] = {}
    for key in dict.fromkeys(key for piece in pieces for key in piece):
        values = [piece[key] for piece in pieces if key in piece]
        if isinstance(values[0], Mapping):
            joined[key] = _joined(values)
        else:
            joined[key] = [item for value in values for item in value] if isinstance(values[0], list) else values[-1]
    return joined
