"""Import test cases into a campaign and export its corpus, also for fuzzers that know only sequences of bytes.

A file of raw bytes becomes the argument of each export with one parameter that can hold it: a string, a list of bytes,
or a buffer; the other parameters have their simplest values. For a program, it is the standard input.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aegis.errors import AegisError, PolicyError
from aegis.fuzz.case import Case, Step
from aegis.fuzz.portable import read_case, write_case
from aegis.fuzz.regular_files import read_regular, write_regular
from aegis.fuzz.values.core_signatures import Buffer, BufferShape, CString
from aegis.text import printable
from aegis.wit.types import List

if TYPE_CHECKING:
    from aegis.fuzz.target import Target, TargetExport

__all__ = ["export_cases", "import_cases"]

_MAX_FILE_BYTES = 1 << 20
_MAX_FILES = 20_000
_MAX_CASES = 50_000
_SPECIAL = re.compile(r"[^A-Za-z0-9._-]+")


def import_cases(target: Target, paths: Iterable[str]) -> tuple[list[dict[str, Any]], int]:
    """Return the test cases in files and directories, as plain data, and the number of files that fit no export.

    JSON files are findings and test cases of ``aegis fuzz``, ``.jsonl`` files are those of a corpus, and all others are
    raw bytes. Raise :class:`~aegis.errors.PolicyError` for a path that cannot be read.
    """
    found: list[dict[str, Any]] = []
    unused = 0
    for path in _files(paths):
        try:
            data = read_regular(path, _MAX_FILE_BYTES if path.suffix != ".jsonl" else 1 << 30)
        except OSError as error:
            raise PolicyError(f"{printable(str(path))} cannot be read: {error.strerror or error}") from None
        cases = [write_case(target, case) for case in _cases(target, path, data)]
        unused += not cases
        found += cases
        if len(found) >= _MAX_CASES:
            break
    return found[:_MAX_CASES], unused


def _files(paths: Iterable[str]) -> Iterator[Path]:
    left = _MAX_FILES
    for path in paths:
        whole = Path(path)
        if not whole.exists():
            raise PolicyError(f"{printable(path)} does not exist: name a file or a directory of test cases")
        for file in sorted(one for one in whole.rglob("*") if one.is_file()) if whole.is_dir() else [whole]:
            left -= 1
            if left < 0:
                return
            yield file


def _cases(target: Target, path: Path, data: bytes) -> Iterator[Case]:
    if path.suffix in (".json", ".jsonl"):
        documents = list(_documents(data, lines=path.suffix == ".jsonl"))
        if documents:
            for document in documents:
                try:
                    case = read_case(target, document)
                except (ValueError, KeyError, TypeError, AegisError):
                    continue  # of another artifact
                if case.steps:
                    yield case
            return
    for export in target.exports.values():
        arguments = _holding(export, data)
        if arguments is not None:
            yield Case((Step(export.name, arguments),))


def _documents(data: bytes, *, lines: bool) -> Iterator[dict[str, Any]]:
    """Yield the test cases in a JSON document, or in one per line: ``{"steps": …, "answers": …}``."""
    for text in data.splitlines() if lines else [data]:
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            continue
        entries = [document]
        if isinstance(document, dict) and "steps" not in document:  # a report, or the state of a campaign
            entries = [*_listed(document.get("findings")), *_listed(document.get("behaviours"))]
        for entry in entries:
            case = entry[1] if isinstance(entry, list) and len(entry) >= 2 else entry  # a behaviour of a corpus
            if isinstance(case, dict) and "steps" in case:
                yield {"answers": [], **case}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _place(export: TargetExport) -> int | None:
    """Return the position of the only parameter that can hold raw bytes, ``None`` if there is none or several."""
    if None in export.shapes:
        return None
    if export.program:
        return 1
    if export.type is None:
        places = [n for n, shape in enumerate(export.shapes) if isinstance(shape, BufferShape)]
    else:
        places = [n for n, of in enumerate(export.types) if of in ("string", List("u8"))]
    return places[0] if len(places) == 1 else None


def _holding(export: TargetExport, data: bytes) -> tuple[Any, ...] | None:
    """Return arguments of an export with the given bytes; ``None`` if no parameter can hold them."""
    place = _place(export)
    if place is None:
        return None
    value: Any = data
    shape = export.shapes[place]
    if isinstance(shape, BufferShape):
        value = shape.made(data)
    elif export.types[place] == "string":
        try:
            value = data.decode()
        except UnicodeDecodeError:
            return None
    plain = [shape.simplest() for shape in export.shapes if shape is not None]
    return (*plain[:place], value, *plain[place + 1 :])


# -- export ---------------------------------------------------------------------------------------------


def export_cases(target: Target, cases: Iterable[Case], folder: str | os.PathLike[str]) -> int:
    """Write test cases below a directory, one file each, by export, and return their number.

    A case that is one call with one input is a file of its raw bytes, any other one a JSON document. Raise
    :class:`~aegis.errors.PolicyError` if a file cannot be written.
    """
    number = 0
    for case in cases:
        raw = _raw(target, case)
        data = raw if raw is not None else json.dumps(write_case(target, case)).encode()
        export = _SPECIAL.sub("_", case.steps[-1].function)[:80] or "_"
        path = Path(folder) / export / f"{sha256(data).hexdigest()[:16]}{'' if raw is not None else '.json'}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_regular(path, data)
        except OSError as error:
            raise PolicyError(f"{printable(str(path))} cannot be written: {error.strerror or error}") from None
        number += 1
    return number


def _raw(target: Target, case: Case) -> bytes | None:
    """Return the bytes of a case that importing them would make again, ``None`` if there are none."""
    if len(case.steps) != 1 or any(case.answers):
        return None
    step = case.steps[0]
    export = target.exports.get(step.function)
    place = None if export is None else _place(export)
    if export is None or place is None:
        return None
    value = step.arguments[place]
    data = (
        value.data
        if isinstance(value, (Buffer, CString))
        else value.encode()
        if isinstance(value, str)
        else bytes(value)
    )
    return data if _same(step.arguments, _holding(export, data)) else None


def _same(one: Sequence[Any], two: Sequence[Any] | None) -> bool:
    return two is not None and repr(tuple(one)) == repr(tuple(two))
