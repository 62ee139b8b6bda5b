"""The specifications that the parent sends to a worker: of the worker, of each sandbox, and of a compilation.

They are pickled, because only the parent sends them and only workers unpickle.
"""

from __future__ import annotations

import io
from struct import Struct

from aegis.engine.compile.config import EngineConfig
from aegis.isolation.protocol.pickled import LATEST, Pickler, Unpickler
from aegis.limits import Limits
from aegis.policy import Policy
from aegis.policy.capabilities import CAPABILITIES, WORKER
from aegis.support.lean import Any, dataclass, field

__all__ = ["ACCOUNT", "SPEC_SIZE_BYTES", "Compile", "Folder", "SandboxSpec", "WorkerSpec", "pack", "unpack"]

ACCOUNT = Struct("<qqqqqdqqqq")
"""The account: a sandbox's counters, sent with every answer. Host calls and bytes left, bytes in and out, denials,
seconds in host calls, fuel left, bytes of memory, bytes written to stdout and to stderr."""

SPEC_SIZE_BYTES = 4
"""Bytes of the length before a pickled ``WorkerSpec`` on the socket of a forked worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """The properties that all sandboxes of a worker share, sent when the worker is created."""

    reads: bool = False
    """Whether the policy grants directories or files."""
    writes: bool = False
    """Whether it grants any of them for writing."""
    network: bool = False
    listens: bool = False
    known: Policy = field(default_factory=Policy)
    """The policy of the sandboxes as far as all share it: without host paths and standard streams."""
    skip: tuple[str, ...] = ()
    """Confinement layers to omit."""

    @classmethod
    def of(cls, policy: Policy, skip: tuple[str, ...]) -> WorkerSpec:
        """Return the specification of workers for sandboxes with ``policy``; ``skip`` names layers to omit."""
        paths, network = policy.filesystem.paths, policy.network
        return cls(
            reads=bool(paths), writes=any(path.write for path in paths),
            network=network is not None, listens=network is not None and bool(network.listen), skip=skip,
            known=policy.for_workers(),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A granted directory, or a folder of individually granted files: its guest path and its descriptors.

    A descriptor is an index into the list that arrives with the message. A folder of single files has no descriptor;
    ``files`` maps each name to the file's descriptor and whether the guest may write it.
    """

    guest: str
    descriptor: int | None
    writable: bool
    files: dict[str, tuple[int, bool]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """The specification of one sandbox. Descriptors are indices into the list that arrives with the message."""

    policy: Policy
    config: EngineConfig
    kind: str
    digest: str
    shape: bytes | int
    """The pickled ``ModuleInfo`` or ``ComponentRecord`` of the artifact, or the descriptor of a file that holds it."""
    code: tuple[tuple[int, int], ...]
    """The number of each core module (0 for a module) and the descriptor of its compiled code."""
    shared: int
    """The descriptor of the shared memory."""
    folders: tuple[Folder, ...] = ()
    stdin: bool = False
    """Whether the parent reads stdin for the guest; otherwise stdin is the bytes in the policy, or empty."""
    stdout: str = "discard"
    stderr: str = "discard"
    """How the parent treats the output: ``capture``, ``inherit`` or ``discard``."""
    terminals: tuple[bool, bool, bool] = (False, False, False)
    """Which of stdin, stdout and stderr are terminals."""
    resolver: int | None = None
    """The descriptor on which the parent answers look-ups."""
    sockets: int | None = None
    """The descriptor on which the parent passes sockets."""
    times: int | None = None
    """The descriptor on which the worker passes files whose times the parent sets."""
    args: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    """The guest's environment variables: the worker's own environment is empty."""
    remote: tuple[tuple[str, str], ...] = ()
    """Imports that the embedder serves. Of a module: module and name; of a component: an interface and an empty name,
    or an empty interface and the name of a function of the world."""
    observed: bool = False
    """Whether a subscriber receives events."""
    denials: bool = False
    """Whether the worker reports every denial instead of the first few."""
    answered: bool = False
    """Whether the parent answers the calls of the worker's own host functions too, because it has an answer step."""
    trap_missing: bool = False
    data_bytes: int | None = None
    """Limit of private memory in bytes, in addition to the present use (RLIMIT_DATA)."""
    strict: bool = False
    """Whether a missing confinement layer is an error."""
    skip: tuple[str, ...] = ()
    """Confinement layers to omit."""
    modules: tuple[str, ...] = field(default=())
    """Python modules to import before confinement."""


_SHARED = ("limits", *(row.name for row in CAPABILITIES if row.place == WORKER), "isolation")


class _Packer(Pickler):
    """Pickles references to the parts of the policy that the worker already has from its ``WorkerSpec``."""

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


def pack(spec: SandboxSpec, known: Policy) -> bytes:
    """Pickle a sandbox's specification for a worker whose ``WorkerSpec`` has the policy ``known``."""
    file = io.BytesIO()
    _Packer(file, known).dump(spec)
    return file.getvalue()


def unpack(data: Any, known: Policy) -> SandboxSpec | Compile:
    """Unpickle the parent's first message, in a worker whose ``WorkerSpec`` has the policy ``known``."""
    spec: SandboxSpec | Compile = _Unpacker(io.BytesIO(data), known).load()
    return spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Compile:
    """A request to compile core modules of an artifact, whose bytes and code are passed in descriptors."""

    kind: str
    config: EngineConfig
    limits: Limits
    data: int
    """The descriptor of the artifact's bytes."""
    code: int
    """The descriptor of the file for the code of all modules, in order."""
    modules: tuple[int, ...]
    """The numbers of the modules; a module has the number 0."""
    data_bytes: int | None
    """Limit of private memory in bytes, in addition to the present use."""
    seconds: float | None
    """CPU time that compiling may take."""
    skip: tuple[str, ...] = ()
    """Confinement layers to omit."""
