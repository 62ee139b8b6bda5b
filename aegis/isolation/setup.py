"""What a worker is told before it runs anything. It comes from the parent alone, so it may be pickled."""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct
from typing import Any

from aegis.engine.config import EngineConfig
from aegis.limits import Limits
from aegis.policy import Policy

__all__ = ["ACCOUNT", "Brief", "Compile", "Folder", "Setup"]

ACCOUNT = Struct("<qqqqqdqqqq")
"""The counters of a sandbox, with every answer: host calls and bytes that are left, bytes in and out, denials,
seconds in host calls, fuel that is left, bytes of memory, bytes written to stdout and stderr."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief:
    """What a worker is told when it is made: as much of its sandboxes as is known by then."""

    reads: bool = False
    """Whether directories or files are granted, and whether for writing."""
    writes: bool = False
    network: bool = False
    listens: bool = False
    skip: tuple[str, ...] = ()

    @classmethod
    def of(cls, policy: Policy, skip: tuple[str, ...]) -> Brief:
        """Return what there is to tell of the sandboxes under ``policy``."""
        paths, network = policy.filesystem.paths, policy.network
        return cls(
            reads=bool(paths) or network is not None, writes=any(path.write for path in paths),
            network=network is not None, listens=network is not None and bool(network.listen), skip=skip,
        )  # fmt: skip


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
