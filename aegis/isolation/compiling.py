"""Compiling in a worker: the parent's side, which bounds it, and the worker's, which does it.

The parent never loads what such a worker made. It hands the code, sealed, to workers of the same artifact alone.
"""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from aegis.descriptors import standard_reserved
from aegis.engine.code import Artifact
from aegis.engine.component.artifact import Component
from aegis.engine.config import EngineConfig
from aegis.errors import (
    AegisError,
    AegisInternalError,
    ArtifactError,
    DeadlineExceeded,
    MemoryExceeded,
    WorkerCrashed,
)
from aegis.isolation.faults import from_plain
from aegis.isolation.setup import Compile
from aegis.isolation.wire import SEAL_ALL, Broken, Gone, Late, decode, encode, seal
from aegis.isolation.worlds import world_from_plain, world_to_plain
from aegis.limits import MIB, TRUSTED, format_seconds
from aegis.wasm.admission import bounds
from aegis.wasm.anatomy import read_component
from aegis.wit.types import Function

if TYPE_CHECKING:
    from aegis.engine.cache import Cache
    from aegis.isolation.pool import Pool, Worker
    from aegis.policy.isolation import Isolation

__all__ = ["Code", "code_for", "compile_here"]

_PIECE = 1 << 20
_REAPING = 2.0
"""Seconds for a killed worker to let go of its files."""
_WORLD_BYTES, _WORLD_FACTOR = 64 * MIB, 16
"""What the answer of a compile worker may take of the parent's memory: so much, and so many bytes for each of the
artifact's, whose names and types it holds."""
_LINKED = ("func", "instance")


class Code:
    """Compiled code in a sealed file in memory, and the world of a component."""

    __slots__ = ("descriptor", "world")

    def __init__(self, descriptor: int, world: Any) -> None:
        self.descriptor, self.world = descriptor, world

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # at exit the module may be gone
        if self.descriptor >= 0:
            close(self.descriptor)
            self.descriptor = -1


# -- in the worker --------------------------------------------------------------------------------


class _Bare(Artifact):
    """A module of which nothing but its code is wanted."""

    kind: ClassVar[str] = "module"


def compile_here(wanted: Compile, descriptors: list[int]) -> Any:
    """Compile what is in one descriptor into another; return the component's world, told plainly."""
    data = os.pread(descriptors[wanted.data], os.fstat(descriptors[wanted.data]).st_size, 0)
    artifact: Artifact
    if wanted.kind == "module":
        artifact = _Bare(data, "", None, wanted.limits)
    else:
        artifact = Component(data, read_component(data), "", None, wanted.limits)
    code = artifact._serialise(artifact.code(wanted.config).pointer or 0)
    out = descriptors[wanted.code]
    for at in range(0, len(code), _PIECE):
        os.pwrite(out, code[at : at + _PIECE], at)
    return world_to_plain(artifact.world) if isinstance(artifact, Component) else None


# -- in the parent --------------------------------------------------------------------------------


def code_for(
    artifact: Artifact, config: EngineConfig, pool: Pool, options: Isolation, cache: Cache | None, what: str
) -> Code:
    """Return the code of an artifact for workers: from its own, from the cache, or compiled in a worker.

    Raise :class:`~aegis.errors.ArtifactError`; ``DeadlineExceeded`` and ``MemoryExceeded`` where compiling takes
    more than it may; ``WorkerCrashed`` where the worker died, or answered what cannot be true.
    """
    made: Code | None = artifact.isolated.get(config)
    if made is None:
        with artifact._lock:
            made = artifact.isolated.get(config)
            if made is None:
                started = time.perf_counter()
                with standard_reserved():
                    made = _code(artifact, config, pool, options, cache, what)
                artifact.isolated[config] = made
                artifact.seconds = artifact.seconds or time.perf_counter() - started
    return made


def _code(
    artifact: Artifact, config: EngineConfig, pool: Pool, options: Isolation, cache: Cache | None, what: str
) -> Code:
    for other, native in artifact._codes.items():
        if other.fingerprint() == config.fingerprint() and native.pointer is not None:
            world = None if artifact.kind == "module" else artifact.world  # type: ignore[attr-defined]
            return Code(_sealed(artifact._serialise(native.pointer)), world)
    kept = None if cache is None else _kept(artifact, config, cache)
    if kept is not None:
        artifact.cached = True
        return kept
    made, told = _compiled(artifact, config, pool, options, what)
    if cache is not None:
        name, world = _names(artifact, config, cache)
        cache.put(world, bytes(encode(told)))
        cache.put(name, os.pread(made.descriptor, os.fstat(made.descriptor).st_size, 0))
    return made


def _names(artifact: Artifact, config: EngineConfig, cache: Cache) -> tuple[str, str]:
    """Return the names of the code and of the world: apart from what this process compiled, and would load."""
    mark = f"{config.fingerprint()} {bounds(artifact._limits)} isolated v1"
    return cache.name(artifact.digest, mark), cache.name(artifact.digest, f"{mark} world")


def _kept(artifact: Artifact, config: EngineConfig, cache: Cache) -> Code | None:
    name, world = _names(artifact, config, cache)
    told = cache.get(world)
    if told is None:
        return None
    try:
        plain = decode(told)
        descriptor = cache.mapped(name)
        if descriptor is None:
            code = cache.get(name)
            if code is None:
                return None
            descriptor = _sealed(code)
        return Code(descriptor, None if plain is None else world_from_plain(plain))
    except (OSError, Broken):
        return None


def _sealed(code: bytes) -> int:
    from aegis.isolation.pool import sealed_copy

    return sealed_copy(code)


def _compiled(artifact: Artifact, config: EngineConfig, pool: Pool, options: Isolation, what: str) -> tuple[Code, Any]:
    data = _sealed(artifact._data)
    out = os.memfd_create("aegis-code", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    worker = pool.take()
    try:
        try:
            told = _ask(worker, artifact, config, options, (data, out), what)
            world = _believed(artifact, told, out)
        except Broken as reason:
            raise _died(worker, options, what, reason) from None
        finally:
            worker.discard()
            os.close(data)
            pool.refill()
        _seal_when_alone(out, what)
    except BaseException:
        os.close(out)
        raise
    return Code(out, world), told


def _believed(artifact: Artifact, told: Any, code: int) -> Any:
    """Return the world that a worker tells, if it can be the artifact's; raise :class:`Broken` for any other.

    The worker read what may have taken it over: its code goes nowhere but to other workers, and of its words the
    names are held against the bytes, and the types against what the engine admits.
    """
    if not os.fstat(code).st_size:
        raise Broken("no code")
    if artifact.kind == "module":
        if told is not None:
            raise Broken("a module with a world")
        return None
    world, anatomy = world_from_plain(told), artifact.anatomy  # type: ignore[attr-defined]
    for items, named in ((world.imports, anatomy.imports), (world.exports, anatomy.exports)):
        found = {(name, "func" if isinstance(item, Function) else "instance") for name, item in items.items()}
        types = {
            name for name, sort in named if sort == "type"
        }  # of a function or an instance they are reflected as it
        if {(name, sort) for name, sort in found if name not in types} != {n for n in named if n[1] in _LINKED}:
            raise Broken("a world of other names than the component has")
    return world


def _seal_when_alone(descriptor: int, what: str) -> None:
    """Seal the code once the process that wrote it is gone, and with it whatever it had mapped."""
    until = time.monotonic() + _REAPING
    while True:
        try:
            seal(descriptor, SEAL_ALL)
            return
        except PermissionError:
            raise _breach(what, "it sealed what was not its own") from None
        except OSError:
            if time.monotonic() > until:
                raise _breach(what, "somebody still writes to its code") from None
            time.sleep(0.001)


def _ask(
    worker: Worker, artifact: Artifact, config: EngineConfig, options: Isolation, files: tuple[int, int], what: str
) -> Any:
    wanted = Compile(
        kind=artifact.kind,
        config=config,
        limits=artifact._limits,
        data=0,
        code=1,
        data_bytes=options.compile_memory,
        seconds=options.compile_time,
        skip=options.without,
    )
    until = None if options.compile_time is None else time.monotonic() + options.compile_time
    try:
        worker.channel.budget = _WORLD_BYTES + _WORLD_FACTOR * len(artifact._data)
        worker.channel.send(["compile", pickle.dumps(wanted)], files)
        kind, value = _answer(worker.channel.recv(until))
    except Late:
        raise _too_long(options, what) from None
    if kind == "fail":
        raise _failed(from_plain(value), options, what)
    return value


def _answer(reply: Any) -> tuple[str, Any]:
    """Return what a worker answered; raise :class:`Broken` for what is no answer."""
    if type(reply) is not list or len(reply) != 3 or reply[0] not in ("done", "fail") or type(reply[2]) is not list:
        raise Broken("something other than an answer")
    return reply[0], reply[1]


def _failed(error: AegisError, options: Isolation, what: str) -> AegisError:
    """Return why compiling failed; raise :class:`Broken` for what compiling does not fail with, a guest's exit say."""
    if isinstance(error, ArtifactError):
        return ArtifactError(f"{what}: {error}")
    if isinstance(error, MemoryExceeded) and error.limit == "overhead" and options.compile_memory is not None:
        return _too_large(options.compile_memory, what)
    if not isinstance(error, MemoryExceeded | DeadlineExceeded | AegisInternalError):
        raise Broken(f"compiling that ended as {error.kind}")
    return error


def _breach(what: str, reason: object) -> WorkerCrashed:
    return WorkerCrashed(f"{what}: the worker process that compiled it broke the protocol: {reason}", signal=0)


def _died(worker: Worker, options: Isolation, what: str, reason: Broken) -> AegisError:
    """Return why a compiling worker died, or that it is not to be understood."""
    if not isinstance(reason, Gone):
        return _breach(what, reason)
    crash = worker.crashed()
    if crash.signal == signal.SIGXCPU:
        return _too_long(options, what)
    if options.compile_memory is not None and (
        worker.starved(crash) or crash.signal in (signal.SIGKILL, signal.SIGSEGV)
    ):
        return _too_large(options.compile_memory, what)
    return crash


def _too_long(options: Isolation, what: str) -> DeadlineExceeded:
    allowed = options.compile_time or 0.0
    shown = format_seconds(allowed)
    return DeadlineExceeded(
        f"{what}: deadline exceeded ({shown}/{shown} of compiling), the guest never started: "
        f"raise it with compile_time of isolation{TRUSTED}",
        limit="compile_time", used=allowed, allowed=allowed,
    )  # fmt: skip


def _too_large(allowed: int, what: str) -> MemoryExceeded:
    return MemoryExceeded(
        f"{what}: compile-memory limit exceeded ({allowed:,}/{allowed:,} bytes), the guest never started: "
        f"raise it with compile_memory of isolation{TRUSTED}",
        limit="compile_memory", phase="compile", used=allowed, allowed=allowed,
    )  # fmt: skip
