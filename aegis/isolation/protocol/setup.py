"""What a worker is told before it runs anything. It comes from the parent alone, so it may be pickled."""

from __future__ import annotations

import io
from struct import Struct

from aegis.engine.compile.config import EngineConfig
from aegis.isolation.protocol.pickled import LATEST, Pickler, Unpickler
from aegis.limits import Limits
from aegis.policy import Policy
from aegis.support.lean import Any, dataclass, field

__all__ = ["ACCOUNT", "Brief", "Compile", "Folder", "Setup", "pack", "unpack"]

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
    known: Policy = field(default_factory=Policy)
    """The policy of its sandboxes, as far as it is the same for all: no host paths, no standard streams."""
    skip: tuple[str, ...] = ()

    @classmethod
    def of(cls, policy: Policy, skip: tuple[str, ...]) -> Brief:
        """Return what there is to tell of the sandboxes under ``policy``."""
        paths, network = policy.filesystem.paths, policy.network
        return cls(
            reads=bool(paths), writes=any(path.write for path in paths),
            network=network is not None, listens=network is not None and bool(network.listen), skip=skip,
            known=policy.for_workers(),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A granted directory, or a folder of files granted singly: its name for the guest, and its descriptors.

    Descriptors are numbers in the list that comes with the message. A folder of single files has none of its own:
    ``files`` has one for each, and whether it may be written.
    """

    guest: str
    descriptor: int | None
    writable: bool
    files: dict[str, tuple[int, bool]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """One sandbox in a worker."""

    policy: Policy
    config: EngineConfig
    kind: str
    digest: str
    shape: bytes | int
    """The pickled ``ModuleInfo`` or ``ComponentRecord`` of the artifact, or the descriptor of a file with it."""
    code: tuple[tuple[int, int], ...]
    """Core modules by number (a module has 0), each with the descriptor of its compiled code."""
    shared: int
    folders: tuple[Folder, ...] = ()
    stdin: bool = False
    """Whether the parent reads stdin for the guest; if not, it is what the policy says, or empty."""
    stdout: str = "discard"
    stderr: str = "discard"
    """What the parent does with the output: ``capture``, ``inherit`` or ``discard``."""
    terminals: tuple[bool, bool, bool] = (False, False, False)
    """Which of stdin, stdout and stderr are terminals."""
    resolver: int | None = None
    """The descriptor on which the parent answers look-ups."""
    sockets: int | None = None
    """The descriptor on which the parent hands over sockets."""
    times: int | None = None
    """The descriptor by which the parent gets files whose times are to be set."""
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


_SHARED = ("limits", "clock", "random", "logging", "network", "config", "isolation")


class _Packer(Pickler):
    """Names what the worker knows by its brief instead of sending it."""

    def __init__(self, file: io.BytesIO, known: Policy) -> None:
        super().__init__(file, LATEST)
        parts = {name: getattr(known, name) for name in _SHARED}
        self._names = {id(part): name for name, part in parts.items() if part is not None}

    def persistent_id(self, value: Any) -> str | None:
        return self._names.get(id(value))


class _Unpacker(Unpickler):
    def __init__(self, file: io.BytesIO, known: Policy) -> None:
        super().__init__(file)
        self._known = known

    def persistent_load(self, name: Any) -> Any:
        return getattr(self._known, name)


def pack(setup: Setup, known: Policy) -> bytes:
    """Return a setup for a worker whose brief has ``known``."""
    file = io.BytesIO()
    _Packer(file, known).dump(setup)
    return file.getvalue()


def unpack(data: Any, known: Policy) -> Setup | Compile:
    """Return what the parent packed, for a worker whose brief has ``known``."""
    told: Setup | Compile = _Unpacker(io.BytesIO(data), known).load()
    return told


@dataclass(frozen=True, slots=True, kw_only=True)
class Compile:
    """Core modules to be compiled; the artifact's bytes, and what becomes of them, are descriptors."""

    kind: str
    config: EngineConfig
    limits: Limits
    data: int
    code: int
    """The file for the code of all modules, one after the other."""
    modules: tuple[int, ...]
    """The numbers of the modules; a module has the number 0."""
    data_bytes: int | None
    seconds: float | None
    skip: tuple[str, ...] = ()
