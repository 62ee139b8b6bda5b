"""What a worker is told before it runs anything. It comes from the parent alone, so it may be pickled."""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct
from typing import Any

from aegis.engine.config import EngineConfig
from aegis.limits import Limits
from aegis.policy import Policy

__all__ = ["ACCOUNT", "Compile", "Folder", "Setup"]

ACCOUNT = Struct("<qqqqqdqqqq")
"""The counters of a sandbox, with every answer: host calls and bytes that are left, bytes in and out, denials,
seconds in host calls, fuel that is left, bytes of memory, bytes written to stdout and stderr."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A granted directory: its name for the guest, and the descriptors of it and of files granted singly.

    Descriptors are numbers in the list that comes with the message.
    """

    guest: str
    descriptor: int
    writable: bool
    only: dict[str, tuple[int, str, bool]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """One sandbox in a worker."""

    policy: Policy
    config: EngineConfig
    kind: str
    digest: str
    shape: Any
    """The module's ``ModuleInfo``, or the component's ``Anatomy`` and ``World``."""
    code: int
    """The descriptor of the compiled code."""
    shared: int
    folders: tuple[Folder, ...] = ()
    stdin: int | None = None
    stdout: int | None = None
    stderr: int | None = None
    args: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    """What the policy passes on of the parent's environment, which a worker has not."""
    remote: tuple[tuple[str, str], ...] = ()
    """Imports that the embedder serves: of a module, of a component's interfaces, of its world."""
    observed: bool = False
    denials: bool = False
    trap_missing: bool = False
    data_bytes: int | None = None
    strict: bool = False
    skip: tuple[str, ...] = ()
    modules: tuple[str, ...] = field(default=())
    """What to import before the doors close."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compile:
    """One artifact to be compiled; its bytes and what becomes of them are descriptors."""

    kind: str
    config: EngineConfig
    limits: Limits
    data: int
    code: int
    data_bytes: int | None
    seconds: float | None
    skip: tuple[str, ...] = ()
