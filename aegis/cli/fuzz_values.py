"""The options of ``aegis fuzz`` about the values and calls that it generates, as fields of a campaign's plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aegis.cli.input_files import read_bounded
from aegis.errors import PolicyError
from aegis.fuzz.dictionary import read_entries
from aegis.fuzz.examples import group_examples, read_examples
from aegis.fuzz.plan import MAX_ARGUMENT_ITEMS
from aegis.limits import parse_count
from aegis.text import printable

__all__ = ["given_values"]

_MAX_FILE_BYTES = 4 << 20
_LARGEST = 1 << 26
"""Largest ``--max-size``: one value that crosses the boundary of a guest has at most 64 MiB by default."""


def given_values(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of :class:`~aegis.fuzz.plan.CampaignPlan` that these options set."""
    size = MAX_ARGUMENT_ITEMS if options["max_size"] is None else parse_count(options["max_size"], "--max-size")
    if size is None or not 1 <= size <= _LARGEST:
        raise PolicyError(f"--max-size: {options['max_size']} is not a number from 1 to {_LARGEST}")
    examples = group_examples(options["examples"]) if options["examples"] else []
    for path in options["example_files"]:
        examples += read_examples(_read(path, "--examples").decode("utf-8", "replace"))
    return {
        "dictionary": tuple(_words(options["dictionaries"])),
        "examples": tuple(examples),
        "max_size": size,
        "skip": tuple(options["skip"]),
        "allocator": options["allocator"] or "",
        "signatures": tuple(options["signatures"]),
    }


def _words(paths: Iterable[str]) -> Iterable[bytes]:
    for path in paths:
        yield from read_entries(_read(path, "--dict"), path)


def _read(path: str, option: str) -> bytes:
    try:
        return read_bounded(path, _MAX_FILE_BYTES)
    except OSError as error:
        raise PolicyError(f"{option}: {printable(path)} cannot be read: {error.strerror or error}") from None
