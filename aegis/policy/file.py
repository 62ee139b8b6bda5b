"""Read policy files, ``aegis.toml``, with the files that they include; every mistake raises an error with its line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aegis.errors import PolicyError
from aegis.policy.parts import PolicyPart, contradiction
from aegis.policy.policy import Policy
from aegis.policy.reader import all_faults, policy_of, toml_values
from aegis.policy.toml_table import PolicyText, TomlTable

__all__ = ["MAX_POLICY_BYTES", "PolicyFiles", "load_policy", "parse_policy"]

MAX_POLICY_BYTES = 1 << 20
_MAX_INCLUDE_DEPTH = 8
_MAX_INCLUDED_FILES = 64


def load_policy(path: str | os.PathLike[str], *more: str | os.PathLike[str]) -> Policy:
    """Return the policy in the file at ``path``, merged with the files that it includes, and with ``more`` files.

    Several files merge as several ``-c`` of the command do: grants add up, and a later limit wins. Relative paths
    in a file are relative to its directory. Raise :class:`~aegis.errors.PolicyError` with the line of the first
    mistake, or if a file cannot be read.
    """
    files = PolicyFiles()
    for each in (path, *more):
        files.load(each)
    return files.policy()


def parse_policy(text: str, *, base: str | None = None, source: str = "policy") -> Policy:
    """Return the policy in ``text``, the contents of a policy file that includes no others.

    Relative paths are relative to ``base`` (default: the working directory). ``source`` is the file name for errors.
    Raise :class:`~aegis.errors.PolicyError` with the line of the first mistake.

    >>> parse_policy("limits.memory = '1MiB'").limits.memory
    1048576
    """
    values, parsed = toml_values(text, base, source)
    if "include" in values:  # the text may come from elsewhere, and must not name files for Aegis to read
        reason = "include is for policy files: read the file with load_policy, or merge policies with Policy.merged"
        raise parsed.error(reason, ("include",))
    return policy_of(values, parsed)


class PolicyFiles:
    """Policy files in the order in which they merge: each comes after those that it includes.

    A file that is included twice counts once, at its first place. With ``collect``, mistakes are collected in
    ``errors`` instead of raised, and only valid files count.
    """

    def __init__(self, *, collect: bool = False) -> None:
        self.parts: list[PolicyPart] = []
        self.errors: list[PolicyError] = []
        self._collect = collect
        self._read: set[str] = set()
        self._included = 0

    def load(self, path: str | os.PathLike[str]) -> None:
        """Add the file at ``path`` and those that it includes."""
        name = os.fspath(path)
        try:
            self._load(name, ())
        except _Unreadable as error:
            self._reject(PolicyError(f"cannot be read: {error}: name a policy file", source=name))

    def decode(self, data: bytes, *, source: str) -> None:
        """Add a policy that stands in no file, such as standard input; its paths start at the working directory."""
        self._add(data, os.getcwd(), source, ())

    def policy(self) -> Policy:
        """Return the merged policy of all files.

        Raise :class:`~aegis.errors.PolicyError` with the lines of two statements that contradict each other.
        """
        merged, fitting = Policy(), list[PolicyPart]()
        for part in self.parts:
            try:
                merged = merged.merged(part.policy)
                fitting.append(part)
            except PolicyError as error:
                self._reject(contradiction(fitting, part, error))
        return merged

    def _reject(self, error: PolicyError) -> None:
        if not self._collect:
            raise error
        self.errors.append(error)

    def _load(self, name: str, chain: tuple[str, ...]) -> None:
        path = os.path.abspath(name)
        data = _contents(path)
        self._read.add(path)
        self._add(data, os.path.dirname(path), name, (*chain, name), path)

    def _add(self, data: bytes, base: str, source: str, chain: tuple[str, ...], path: str | None = None) -> None:
        try:
            values, text = toml_values(_decoded(data, source), base, source)
        except PolicyError as error:
            return self._reject(error)
        self._include(values, text, chain)
        faults = all_faults(values, text) if self._collect else []
        self.errors += faults
        if not faults:
            policy = policy_of(values, text)
            sources = () if path is None else (path,)
            self.parts.append(PolicyPart(text, values, replace(policy, sources=sources)))
        return None

    def _include(self, values: Mapping[str, Any], text: PolicyText, chain: tuple[str, ...]) -> None:
        top = TomlTable(values, (), text)
        try:
            items = top.items("include", "a list of files")
        except PolicyError as error:
            return self._reject(error)
        for number, item in enumerate(items):
            try:
                name = top.text_of(item, "include", number)
                folder = os.path.dirname(text.source) if chain else ""
                self._include_one(os.path.join(folder, name), chain or (text.source,), text.base)
            except PolicyError as error:
                self._reject(error)
            except _Unreadable as error:
                reason = f"include: {name!r} cannot be included: {error}"
                self._reject(top.error(reason, "include", number))
        return None

    def _include_one(self, name: str, chain: tuple[str, ...], base: str) -> None:
        """Add a file that another in ``base`` includes; ``chain`` has the names of the files on the way to it."""
        path = os.path.abspath(name)
        way = " includes ".join((*chain, name))
        if path in map(os.path.abspath, chain):
            raise _Unreadable(f"it includes itself ({way}): remove one of these lines")
        if path in self._read:
            return
        if len(chain) > _MAX_INCLUDE_DEPTH:
            used = f"({len(chain)}/{_MAX_INCLUDE_DEPTH})"
            raise _Unreadable(f"include depth exceeded {used}, {way}: include it from a file nearer to the first")
        self._included += 1
        if self._included > _MAX_INCLUDED_FILES:
            used = f"({self._included}/{_MAX_INCLUDED_FILES})"
            raise _Unreadable(f"number of included files exceeded {used}: put several into one file")
        if os.path.exists(path) and not os.path.isfile(path):
            raise _Unreadable("not a regular file: name a policy file")  # opening a pipe would wait for its writer
        try:
            self._load(name, chain)
        except _Unreadable as error:
            raise _Unreadable(f"{error}: a relative path starts at {base}") from None


class _Unreadable(Exception):
    """A policy file cannot be read or included; the message has the reason."""


def _contents(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_POLICY_BYTES + 1)
    except OSError as error:
        raise _Unreadable((error.strerror or "error").lower()) from None
    except ValueError:
        raise _Unreadable("the name has a NUL character") from None


def _decoded(data: bytes, source: str) -> str:
    """Return the text of a policy file; reject a file above the size limit rather than truncate it."""
    if len(data) > MAX_POLICY_BYTES:
        raise PolicyError("is larger than 1 MiB, the maximum for a policy file", source=source)
    try:
        return data.decode("utf-8-sig")  # some editors write a byte order mark
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise PolicyError("is not UTF-8 text", source=source, line=line) from None
