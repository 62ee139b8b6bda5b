"""The standard streams of a guest."""

from __future__ import annotations

import os

from aegis.errors import PolicyError
from aegis.support.lean import TYPE_CHECKING, dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from aegis.policy.declaration import Declaration, StatedFile
    from aegis.support.lean import Any

__all__ = ["StdioCapability"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StdioCapability:
    """The standard streams of a guest.

    ``stdin`` is ``"empty"``, ``"inherit"``, ``"file:PATH"`` or the input itself as bytes. ``stdout`` and ``stderr`` are
    ``"capture"`` (stored in :class:`aegis.Outcome`, up to the limits of the same names), ``"inherit"`` or
    ``"discard"``.

    >>> StdioCapability(stdin=b"3 4", stderr="discard").stdout
    'capture'
    """

    stdin: str | bytes = "empty"
    stdout: str = "capture"
    stderr: str = "capture"

    def __post_init__(self) -> None:
        stdin = self.stdin
        if not isinstance(stdin, (str, bytes)):
            raise PolicyError(f"stdio: stdin must be empty, inherit, file:PATH or bytes, not {type(stdin).__name__}")
        if isinstance(stdin, str) and stdin not in ("empty", "inherit") and not stdin.startswith("file:"):
            raise PolicyError(f"stdio: stdin {stdin!r} is neither empty, inherit nor file:PATH")
        if stdin == "file:":
            raise PolicyError("stdio: stdin names no file; write file:PATH")
        if isinstance(stdin, str) and "\0" in stdin:
            raise PolicyError("stdio: the path of stdin contains a NUL; remove it")
        for name in ("stdout", "stderr"):
            if getattr(self, name) not in ("capture", "inherit", "discard"):
                raise PolicyError(f"stdio: {name} {getattr(self, name)!r} is neither capture, inherit nor discard")

    @property
    def stdin_file(self) -> str | None:
        """The path of the file that is connected to stdin; ``None`` for any other stdin."""
        named = isinstance(self.stdin, str) and self.stdin.startswith("file:")
        return self.stdin[5:] if named else None  # type: ignore[return-value]

    def resolved(self, base: str) -> StdioCapability:
        """Return a copy in which a relative stdin path is joined to ``base``."""
        if isinstance(self.stdin, str) and self.stdin.startswith("file:"):
            path = os.path.abspath(os.path.join(base, self.stdin[5:]))
            return StdioCapability(stdin=f"file:{path}", stdout=self.stdout, stderr=self.stderr)
        return self

    def merged(self, other: StdioCapability, named: Collection[str] = ()) -> StdioCapability:
        """Return this one with the fields that ``other`` states: those in ``named``, and those not at their default."""
        from aegis.policy.merging import stated

        return replace(self, **stated(other, named, "stdin", "stdout", "stderr"))

    def describe(self) -> list[str]:
        """Return a line if the guest has an input."""
        return [] if self.stdin == "empty" else ["standard input"]


def declared() -> Declaration:
    """Return the declaration of the capability. A policy file cannot state it: streams belong to one run."""
    from aegis.policy.declaration import Declaration, Flag

    return Declaration(
        title="standard input",
        needs="--stdin inherit or --stdin FILE; without either it is empty",
        builder="Set the standard streams of the guest.",
        flags=(
            Flag(
                name="--stdin", help="Standard input of the guest. [empty]", metavar="inherit|empty|FILE",
                keys=("stdin",), once=True,
            ),
        ),
        stated=_stated,
        host_files=_host_files,
    )  # fmt: skip


def _stated(options: Mapping[str, Any]) -> StdioCapability:
    (given,) = options["stdin"]
    if not given:
        raise PolicyError("--stdin: the file name is empty; use inherit, empty or a file name")
    return StdioCapability(stdin=given if given in ("inherit", "empty") else f"file:{given}")


def _host_files(granted: StdioCapability) -> Iterable[StatedFile]:
    from aegis.policy.declaration import StatedFile

    if granted.stdin_file is not None:
        reason = "the guest's standard input: a guest could choose the file that is opened"
        yield StatedFile(granted.stdin_file, reason, True)
