"""The declaration of the capability for the standard streams of a guest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aegis.errors import PolicyError
from aegis.policy.declaration import Declaration, Flag, StatedFile
from aegis.policy.statements import StdioCapability
from aegis.support.lean import Any

__all__ = ["declared"]


def declared() -> Declaration:
    """Return the declaration of the capability. A policy file cannot state it: streams belong to one run."""
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
        raise PolicyError("--stdin: the file name is empty: use inherit, empty or a file name")
    return StdioCapability(stdin=given if given in ("inherit", "empty") else f"file:{given}")


def _host_files(granted: StdioCapability) -> Iterable[StatedFile]:
    if granted.stdin_file is not None:
        reason = "the guest's standard input: a guest could choose the file that is opened"
        yield StatedFile(granted.stdin_file, reason, True)
