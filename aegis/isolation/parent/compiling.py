"""Compiling in a worker: the parent's side, which bounds it, and the worker's, which does it.

The parent never loads what such a worker made. It hands the code, sealed, to workers of the same artifact alone.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence

from aegis.component.planning.plain_world import BadWorld, world_from_plain, world_to_plain
from aegis.engine.compile.code import Artifact
from aegis.engine.compile.config import EngineConfig
from aegis.errors import (
    AegisError,
    AegisInternalError,
    ArtifactError,
    DeadlineExceeded,
    MemoryExceeded,
    WorkerCrashed,
)
from aegis.isolation.protocol.channel import SEAL_ALL, Broken, Gone, Late, seal
from aegis.isolation.protocol.errors import from_plain
from aegis.isolation.protocol.pickled import dumps
from aegis.isolation.protocol.sealed import SealedFile, new_file, sealed_copy
from aegis.isolation.protocol.setup import Compile
from aegis.limits import MIB, TRUSTED, format_seconds
from aegis.support.lean import TYPE_CHECKING, Any, ClassVar, NamedTuple
from aegis.wit.types import Function

if TYPE_CHECKING:
    from aegis.engine.compile.reflect import World
    from aegis.isolation.parent.pool import Pool, Worker
    from aegis.policy.isolation import Isolation

__all__ = ["Compiled", "Compiler", "believed_world", "compile_here", "too_large", "too_long"]

_PIECE = 1 << 20
_REAPING = 2.0
"""Seconds for a killed worker to let go of its files."""
_WORLD_BYTES, _WORLD_FACTOR = 64 * MIB, 16
"""Bytes of the parent's memory that the answer of a compile worker may take: so many, and so many for each of the
artifact's, whose names and types it holds."""
_LINKED = ("func", "instance")


# -- in the worker --------------------------------------------------------------------------------


class _Bare(Artifact):
    """A module of which nothing but its code is wanted."""

    kind: ClassVar[str] = "module"


def compile_here(wanted: Compile, descriptors: Sequence[int]) -> Any:
    """Compile core modules of what is in one descriptor into another.

    Return, of a component, its world, told plainly, and the length of each module's code.
    """
    data = os.pread(descriptors[wanted.data], os.fstat(descriptors[wanted.data]).st_size, 0)
    world: Any = None
    parts: dict[int, Any] = {}
    if wanted.kind == "module":
        parts[0] = _Bare(data, "", None, wanted.limits)
    else:
        from aegis.component.planning.artifact import Component, admit_component

        record = admit_component(data, "", wanted.limits, None, "the component")
        component = Component(data, record, "", None, wanted.limits)
        world, parts = world_to_plain(component.validated()), component.modules
    lengths: list[int] = []
    for number in wanted.modules:
        part = parts[number]
        code = part._serialise(part.code(wanted.config).pointer or 0)
        part._codes.clear()
        for at in range(0, len(code), _PIECE):
            os.pwrite(descriptors[wanted.code], code[at : at + _PIECE], sum(lengths) + at)
        lengths.append(len(code))
    return None if wanted.kind == "module" else [world, lengths]


# -- in the parent --------------------------------------------------------------------------------


class Compiled(NamedTuple):
    """What a compile worker made: a file for each module that was asked for, and a component's world."""

    files: list[SealedFile]
    told: Any
    """The world in plain data, as it was told."""
    world: World | None


class Compiler:
    """Has one artifact compiled for engines of ``config`` in workers, a fresh one each time.

    All of them together have ``compile_time``. ``what`` is the artifact's name in errors.
    """

    def __init__(self, config: EngineConfig, pool: Pool, options: Isolation, what: str) -> None:
        self.what = what
        self._config, self._pool, self._options = config, pool, options
        allowed = options.compile_time
        self._until = None if allowed is None else time.monotonic() + allowed

    def compiled(self, artifact: Artifact, modules: Sequence[int]) -> Compiled:
        """Have the modules with these numbers compiled; a module has the number 0. A component is validated besides.

        The worker sees the bytes of ``artifact`` and nothing else. All code goes to one file, for the system bounds
        what a worker writes file by file (RLIMIT_FSIZE).
        """
        data, code = sealed_copy(artifact._data), SealedFile(new_file())
        worker = self._pool.take()
        try:
            try:
                told = self._ask(worker, artifact, modules, (data.descriptor, code.descriptor))
                plain, world, lengths = self._believed(artifact, told, code, len(modules))
            except Broken as reason:
                raise self._died(worker, reason) from None
        finally:
            worker.discard()
            self._pool.refill()
        self._seal_when_alone(code.descriptor)
        return Compiled(code.split(lengths), plain, world)

    def _ask(self, worker: Worker, artifact: Artifact, modules: Sequence[int], files: tuple[int, int]) -> Any:
        options = self._options
        wanted = Compile(
            kind=artifact.kind,
            config=self._config,
            limits=artifact._limits,
            data=0,
            code=1,
            modules=tuple(modules),
            data_bytes=options.compile_memory,
            seconds=options.compile_time,
            skip=options.without,
        )
        try:
            worker.channel.budget = _WORLD_BYTES + _WORLD_FACTOR * artifact.size
            worker.channel.send(["compile", dumps(wanted)], files)
            kind, value = _answer(worker.channel.recv(self._until))
        except Late:
            raise too_long(self._options.compile_time or 0.0, self.what) from None
        if kind == "fail":
            raise self._failed(from_plain(value))
        return value

    @staticmethod
    def _believed(artifact: Artifact, told: Any, code: SealedFile, count: int) -> tuple[Any, World | None, list[int]]:
        """Return the world that a worker tells, plainly and as such, and the length of each of ``count`` modules' code.

        Raise :class:`Broken` for what cannot be the artifact's. The worker read what may have taken it over: its code
        goes nowhere but to other workers, and of its words the names are held against the bytes, and the types against
        what the engine admits.
        """
        plain, world, lengths = None, None, [code.size()]
        if artifact.kind == "component":
            plain, lengths = _pair(told)
            world = believed_world(artifact, plain)
        elif told is not None:
            raise Broken("a module with a world")
        if not all(type(length) is int and length > 0 for length in lengths) or sum(lengths) != code.size():
            raise Broken("no code, or code of another length than it says")
        if len(lengths) != count:
            raise Broken("code of more or fewer modules than were wanted")
        return plain, world, lengths

    def _seal_when_alone(self, descriptor: int) -> None:
        """Seal the code once the process that wrote it is gone, and with it whatever it had mapped."""
        until = time.monotonic() + _REAPING
        while True:
            try:
                seal(descriptor, SEAL_ALL)
                return
            except PermissionError:
                raise self._breach("it sealed what was not its own") from None
            except OSError:
                if time.monotonic() > until:
                    raise self._breach("somebody still writes to its code") from None
                time.sleep(0.001)

    # -- failures ------------------------------------------------------------------------------

    def _failed(self, error: AegisError) -> AegisError:
        """Return why compiling failed; raise :class:`Broken` for what compiling does not fail with, a guest's exit
        say."""
        if isinstance(error, ArtifactError):
            return ArtifactError(f"{self.what}: {error}")
        if isinstance(error, MemoryExceeded) and error.limit == "overhead" and self._options.compile_memory is not None:
            return too_large(self._options.compile_memory, self.what)
        if not isinstance(error, MemoryExceeded | DeadlineExceeded | AegisInternalError):
            raise Broken(f"compiling that ended as {error.kind}")
        return error

    def _breach(self, reason: object) -> WorkerCrashed:
        return WorkerCrashed(
            f"{self.what}: the worker process that compiled it broke the protocol: {reason}", signal=0
        )  # fmt: skip

    def _died(self, worker: Worker, reason: Broken) -> AegisError:
        """Return why a compiling worker died, or that it is not to be understood."""
        if not isinstance(reason, Gone):
            return self._breach(reason)
        crash = worker.crashed()
        if crash.signal == signal.SIGXCPU:
            return too_long(self._options.compile_time or 0.0, self.what)
        memory = self._options.compile_memory
        if memory is not None and (worker.starved(crash) or crash.signal in (signal.SIGKILL, signal.SIGSEGV)):
            return too_large(memory, self.what)
        return crash


def too_long(allowed: float, what: str) -> DeadlineExceeded:
    """Return the error for an artifact, called ``what``, that took all its time to compile."""
    shown = format_seconds(allowed)
    return DeadlineExceeded(
        f"{what}: deadline exceeded ({shown}/{shown} of compiling), the guest never started: "
        f"raise it with compile_time of isolation{TRUSTED}",
        limit="compile_time", used=allowed, allowed=allowed,
    )  # fmt: skip


def too_large(allowed: int, what: str) -> MemoryExceeded:
    """Return the error for an artifact, called ``what``, that took all its memory to compile."""
    return MemoryExceeded(
        f"{what}: compile-memory limit exceeded ({allowed:,}/{allowed:,} bytes), the guest never started: "
        f"raise it with compile_memory of isolation{TRUSTED}",
        limit="compile_memory", phase="compile", used=allowed, allowed=allowed,
    )  # fmt: skip


def believed_world(component: Any, told: Any) -> World:
    """Return the world that a worker tells; raise :class:`Broken` for what cannot be one, or not the component's."""
    try:
        world = world_from_plain(told)
    except BadWorld as reason:
        raise Broken(str(reason)) from None
    structure = component.structure
    for items, named in ((world.imports, structure.imports), (world.exports, structure.exports)):
        found = {(name, "func" if isinstance(item, Function) else "instance") for name, item in items.items()}
        types = {name for name, sort in named if sort == "type"}  # of a function or an instance, reflected as it
        if {(name, sort) for name, sort in found if name not in types} != {n for n in named if n[1] in _LINKED}:
            raise Broken("a world of other names than the component has")
    return world


def _pair(told: Any) -> tuple[Any, list[Any]]:
    """Return the parts of what is told of a component; raise :class:`Broken` for anything else."""
    if type(told) is not list or len(told) != 2 or type(told[1]) is not list:
        raise Broken("a component without a world")
    return told[0], told[1]


def _answer(reply: Any) -> tuple[str, Any]:
    """Return what a worker answered; raise :class:`Broken` for what is no answer."""
    if type(reply) is not list or len(reply) != 3 or reply[0] not in ("done", "fail") or type(reply[2]) is not list:
        raise Broken("something other than an answer")
    return reply[0], reply[1]
