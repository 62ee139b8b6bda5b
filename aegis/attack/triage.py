"""Triage: classify a fault by kind and place, and compute the signature by which duplicates are merged."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from traceback import walk_tb
from typing import Any

from aegis.errors import AegisError, AegisInternalError, WorkerCrashed
from aegis.text import printable

__all__ = ["Fault", "coarse", "fault_of", "file_and_line"]

_PACKAGE = Path(__file__).resolve().parents[1]
_ATTACK = _PACKAGE / "attack"
_VARIABLE_PARTS = (
    (re.compile(r"'[^']*'|\"[^\"]*\"|«[^»]*»"), "…"),
    (re.compile(r"0x[0-9a-fA-F]+|[0-9a-f]{8,}|[0-9][0-9.,]*"), "N"),
    (re.compile(r"[^ -~…]+"), "?"),
    (re.compile(r"\(.*"), ""),
)
_MAX_MESSAGE_CHARACTERS = 72


def coarse(message: str) -> str:
    """Return the class of a message: its first line without names, numbers and addresses, which vary between guests."""
    line = message.partition("\n")[0].removeprefix("the input: ")
    for pattern, instead in _VARIABLE_PARTS:
        line = pattern.sub(instead, line)
    return line[:_MAX_MESSAGE_CHARACTERS].strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A violation of the oracle by Aegis: the phase, the kind, the type of the error, and the place in the code."""

    phase: str
    kind: str
    """undocumented, internal, crash, late, escape, left-behind, left-open, differs, engines-differ, died or hung."""
    type: str
    place: str
    """The innermost Aegis function on the stack."""
    text: str
    frames: tuple[str, ...] = ()

    @property
    def signature(self) -> str:
        return " ".join(filter(None, (self.phase, self.kind, self.type, self.place)))

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "signature": self.signature}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Fault:
        """Return the fault that plain data describes."""
        names = ("phase", "kind", "type", "place", "text")
        return cls(**{name: str(data[name]) for name in names}, frames=tuple(map(str, data.get("frames", ()))))


def fault_of(phase: str, error: BaseException) -> Fault:
    """Return the fault for an error that is not documented for the phase."""
    frames = list(_frames(error))
    name, kind = type(error).__name__, "undocumented"
    if isinstance(error, WorkerCrashed):
        name, kind = f"{name}({error.signal})", "crash"
        if not error.signal:
            name = f"{name}: {coarse(str(error))}"
    elif isinstance(error, AegisInternalError):
        name, kind = f"{name}: {coarse(str(error))}", "internal"
    elif isinstance(error, AegisError):
        name = f"{name}: {coarse(str(error))}"
    text = f"{phase}: {type(error).__name__}: {printable(str(error), 400)}"
    return Fault(
        phase=phase, kind=kind, type=name, place=frames[-1].split(":")[0] if frames else "", text=text,
        frames=tuple(frames[-12:]),
    )  # fmt: skip


def file_and_line(frame: str) -> str:
    """Return a frame such as ``wasm.binary.Reader.read:12`` as ``Reader.read (aegis/wasm/binary.py:12)``."""
    place, _, line = frame.rpartition(":")
    parts = place.split(".")
    for count in range(len(parts) - 1, 0, -1):
        path = _PACKAGE.joinpath(*parts[:count]).with_suffix(".py")
        if path.is_file():
            return f"{'.'.join(parts[count:])} ({path.relative_to(_PACKAGE.parent).as_posix()}:{line})"
    return frame


def _frames(error: BaseException) -> Iterator[str]:
    """Yield the Aegis functions in the traceback of an error, outermost first, and those of its cause."""
    for frame, line in walk_tb(error.__traceback__):
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(_PACKAGE) and not path.is_relative_to(_ATTACK):
            module = path.relative_to(_PACKAGE).with_suffix("").as_posix().replace("/", ".")
            yield f"{module}.{frame.f_code.co_qualname}:{line}"
    if error.__cause__ is not None:
        yield from _frames(error.__cause__)
