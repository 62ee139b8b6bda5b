"""Compilation in a worker, the parent's side: bounds it and validates the result.

A compile worker may be compromised by the bytes that it compiles, so the parent never loads its code. It seals the code
and passes it only to workers of the same artifact.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence

from aegis.component.planning.plain_world import BadWorld, world_from_plain
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
from aegis.isolation.protocol.channel import SEAL_ALL, ChannelTimeout, Disconnected, ProtocolError, seal
from aegis.isolation.protocol.errors import from_plain
from aegis.isolation.protocol.pickled import dumps
from aegis.isolation.protocol.sealed import SealedFile, new_file, sealed_copy
from aegis.isolation.protocol.specs import Compile
from aegis.limits import MIB, TRUSTED, format_seconds
from aegis.support.lean import TYPE_CHECKING, Any, NamedTuple
from aegis.wit.types import Function

if TYPE_CHECKING:
    from aegis.engine.compile.reflect import World
    from aegis.isolation.parent.pool import Pool, Worker
    from aegis.policy.isolation import Isolation

__all__ = ["Compiled", "Compiler", "too_large", "too_long", "validated_world"]

_REAP_SECONDS = 2.0
"""Time for the kernel to release the files of a killed worker."""
_WORLD_BYTES, _WORLD_FACTOR = 64 * MIB, 16
"""Budget of parent memory for the answer of a compile worker, which contains the names and types of the artifact: a
constant, plus this factor for each byte of the artifact."""
_LINKED = ("func", "instance")


class Compiled(NamedTuple):
    """The result of a compile worker: a code file for each requested module, and a component's world."""

    files: list[SealedFile]
    reported: Any
    """The world as plain data, as the worker sent it."""
    world: World | None


class Compiler:
    """Compiles one artifact for engines of ``config``, in a new worker for each request.

    ``compile_time`` bounds all requests together. ``label`` names the artifact in errors.
    """

    def __init__(self, config: EngineConfig, pool: Pool, options: Isolation, label: str) -> None:
        self.label = label
        self._config, self._pool, self._options = config, pool, options
        allowed = options.compile_time
        self._until = None if allowed is None else time.monotonic() + allowed

    def compiled(self, artifact: Artifact, modules: Sequence[int]) -> Compiled:
        """Compile the core modules with these numbers (0 for a module) in a worker, which also validates a component.

        The worker receives only the bytes of ``artifact``. It writes all code to one file, because RLIMIT_FSIZE bounds
        the size of each file but not their number. Raise ``ArtifactError``, ``DeadlineExceeded``, ``MemoryExceeded`` or
        ``WorkerCrashed``.
        """
        data, code = sealed_copy(artifact.binary), SealedFile(new_file())
        worker = self._pool.take()
        try:
            try:
                reported = self._ask(worker, artifact, modules, (data.descriptor, code.descriptor))
                plain, world, lengths = self._validated(artifact, reported, code, len(modules))
            except ProtocolError as reason:
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
            limits=artifact.admitted_under,
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
        except ChannelTimeout:
            raise too_long(self._options.compile_time or 0.0, self.label) from None
        if kind == "fail":
            raise self._failed(from_plain(value))
        return value

    @staticmethod
    def _validated(
        artifact: Artifact, reported: Any, code: SealedFile, count: int
    ) -> tuple[Any, World | None, list[int]]:
        """Validate a worker's answer; return the world as plain data and decoded, and the length of each module's code.

        Raise :class:`ProtocolError` if the answer cannot be right. The worker may be compromised by the bytes that it
        read: its code is passed only to other workers, its names are compared with the bytes, and its types must be
        ones that the engine could report.
        """
        plain, world, lengths = None, None, [code.size()]
        if artifact.kind == "component":
            plain, lengths = _pair(reported)
            world = validated_world(artifact, plain)
        elif reported is not None:
            raise ProtocolError("a world for a core module")
        if not all(type(length) is int and length > 0 for length in lengths) or sum(lengths) != code.size():
            raise ProtocolError("no code, or code of another length than stated")
        if len(lengths) != count:
            raise ProtocolError(f"code of {len(lengths)} modules instead of {count}")
        return plain, world, lengths

    def _seal_when_alone(self, descriptor: int) -> None:
        """Seal the code file after the killed worker is gone: the kernel rejects the seal while a mapping can write."""
        until = time.monotonic() + _REAP_SECONDS
        while True:
            try:
                seal(descriptor, SEAL_ALL)
                return
            except PermissionError:
                raise self._breach("it sealed the code file") from None
            except OSError:
                if time.monotonic() > until:
                    raise self._breach("another process can still write to its code") from None
                time.sleep(0.001)

    # -- failures ------------------------------------------------------------------------------

    def _failed(self, error: AegisError) -> AegisError:
        """Return the error to raise for a failure that a worker reports.

        Raise :class:`ProtocolError` for errors that compilation cannot cause, such as a guest's exit.
        """
        if isinstance(error, ArtifactError):
            return ArtifactError(f"{self.label}: {error}")
        if isinstance(error, MemoryExceeded) and error.limit == "overhead" and self._options.compile_memory is not None:
            return too_large(self._options.compile_memory, self.label)
        if not isinstance(error, MemoryExceeded | DeadlineExceeded | AegisInternalError):
            raise ProtocolError(f"compilation failed with an impossible error ({error.kind})")
        return error

    def _breach(self, reason: object) -> WorkerCrashed:
        return WorkerCrashed(
            f"{self.label}: the worker process that compiled it broke the protocol: {reason}", signal=0
        )  # fmt: skip

    def _died(self, worker: Worker, reason: ProtocolError) -> AegisError:
        """Return the error for a compile worker that died or violated the protocol."""
        if not isinstance(reason, Disconnected):
            return self._breach(reason)
        crash = worker.crashed()
        if crash.signal == signal.SIGXCPU:
            return too_long(self._options.compile_time or 0.0, self.label)
        memory = self._options.compile_memory
        if memory is not None and (worker.starved(crash) or crash.signal in (signal.SIGKILL, signal.SIGSEGV)):
            return too_large(memory, self.label)
        return crash


def too_long(allowed: float, label: str) -> DeadlineExceeded:
    """Return the error for compilation that exceeded ``allowed`` seconds; ``label`` names the artifact."""
    shown = format_seconds(allowed)
    message = (
        f"{label}: deadline exceeded ({shown}/{shown} of compiling), the guest never started: "
        f"raise it with compile_time of isolation{TRUSTED}"
    )
    return DeadlineExceeded(message, limit="compile_time", used=allowed, allowed=allowed)


def too_large(allowed: int, label: str) -> MemoryExceeded:
    """Return the error for compilation that exceeded ``allowed`` bytes of memory; ``label`` names the artifact."""
    message = (
        f"{label}: compile-memory limit exceeded ({allowed:,}/{allowed:,} bytes), the guest never started: "
        f"raise it with compile_memory of isolation{TRUSTED}"
    )
    return MemoryExceeded(message, limit="compile_memory", phase="compile", used=allowed, allowed=allowed)


def validated_world(component: Any, reported: Any) -> World:
    """Decode the world that a worker reports; raise :class:`ProtocolError` if it is malformed or not the component's.

    The parent has decoded the names of imports and exports itself, so it can compare them.
    """
    try:
        world = world_from_plain(reported)
    except BadWorld as reason:
        raise ProtocolError(str(reason)) from None
    structure = component.structure
    for items, named in ((world.imports, structure.imports), (world.exports, structure.exports)):
        found = {(name, "func" if isinstance(item, Function) else "instance") for name, item in items.items()}
        types = {name for name, sort in named if sort == "type"}  # reflected as a function or an instance
        if {(name, sort) for name, sort in found if name not in types} != {n for n in named if n[1] in _LINKED}:
            raise ProtocolError("the names in the world are not those of the component")
    return world


def _pair(reported: Any) -> tuple[Any, list[Any]]:
    """Return the world and the code lengths in an answer about a component; raise :class:`ProtocolError` otherwise."""
    if type(reported) is not list or len(reported) != 2 or type(reported[1]) is not list:
        raise ProtocolError("answer about a component without a world")
    return reported[0], reported[1]


def _answer(reply: Any) -> tuple[str, Any]:
    """Return the kind and value of a worker's answer; raise :class:`ProtocolError` if malformed."""
    if type(reply) is not list or len(reply) != 3 or reply[0] not in ("done", "fail") or type(reply[2]) is not list:
        raise ProtocolError("malformed answer")
    return reply[0], reply[1]
