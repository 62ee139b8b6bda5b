"""Finds or compiles an artifact's code for workers, one sealed file for each distinct core module.

The code comes from code that this process compiled, from the cache on disk, or from a compile worker. The parent never
loads code that a worker compiled: such code has its own names in the cache.

A compile worker may be compromised by the bytes that it compiles, and its code is only as trustworthy as those bytes.
Code that is shared by every component with the same module is therefore compiled by a worker that has seen only that
module. Code that was compiled together with other modules is cached for its component only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from aegis.engine.compile.code import Artifact
from aegis.engine.compile.config import EngineConfig
from aegis.errors import AegisInternalError, ArtifactError
from aegis.isolation.protocol.channel import ProtocolError, decode, encode
from aegis.isolation.protocol.pickled import LATEST, dumps
from aegis.isolation.protocol.sealed import SealedFile, sealed_copy
from aegis.support.descriptors import standard_reserved
from aegis.support.lean import TYPE_CHECKING, Any, late
from aegis.wasm.compile_limits import cache_key_part

if TYPE_CHECKING:
    from aegis.component.planning import record
    from aegis.engine.compile.cache import Cache
    from aegis.isolation.parent import compiling
    from aegis.isolation.parent.compiling import Compiled, Compiler
    from aegis.isolation.parent.pool import Pool
    from aegis.policy.isolation import Isolation
else:  # needed only for components, and for artifacts whose code is not cached
    compiling = late("aegis.isolation.parent.compiling")
    record = late("aegis.component.planning.record")

__all__ = ["MAX_MODULES", "Code", "code_for", "own_code"]

MAX_MODULES = 128
"""Core modules of one component. Each needs a descriptor, and one message carries 200, including those of grants."""
_DIGEST_BYTES = 32
_INLINE_BYTES = 8 << 10
"""An artifact's description up to this size is sent inline; a larger one in a sealed file."""
_APART_BYTES = 32 << 10
"""With a cache, a module of at least this size is compiled by a worker of its own, so that its code can be shared. The
preview 1 adapters are larger; modules that a linker generates for each component are smaller."""


class Code:
    """The code of each core module by number, and the world of a component. Equal modules share a file."""

    __slots__ = ("_shape", "distinct", "places", "world")

    def __init__(self, files: Mapping[int, SealedFile], world: Any) -> None:
        self.world = world
        self.distinct = tuple(dict.fromkeys(files.values()))
        self.places = tuple((number, self.distinct.index(file)) for number, file in files.items())
        """The number of each module and the index of its file in ``distinct``."""
        self._shape: bytes | SealedFile | None = None

    def shape(self, artifact: Any) -> bytes | SealedFile:
        """Return the pickled description of ``artifact`` for a worker, as bytes or, if it is large, a sealed file."""
        # One file for all threads: a second would close the first, whose number another thread is sending.
        with artifact.lock:
            if self._shape is None:
                data = dumps(artifact.info if artifact.kind == "module" else self._record(artifact), LATEST)
                self._shape = data if len(data) <= _INLINE_BYTES else sealed_copy(data)
            return self._shape

    def _record(self, component: Any) -> record.ComponentRecord:
        return record.ComponentRecord(component.structure.for_running(), component.program, self.world)


def code_for(
    artifact: Artifact, config: EngineConfig, pool: Pool, options: Isolation, cache: Cache | None, label: str
) -> Code:
    """Return the code of an artifact for workers: already loaded, from the cache, or compiled in a worker.

    Raise :class:`~aegis.errors.ArtifactError` if the artifact is rejected; ``DeadlineExceeded`` or ``MemoryExceeded``
    if compilation exceeds its limits; ``WorkerCrashed`` if the worker dies or sends an invalid answer.
    """
    made: Code | None = artifact.isolated.get(config)
    if made is None:
        with artifact.lock:
            made = artifact.isolated.get(config)
            if made is None:
                started = time.perf_counter()
                compiler = lambda: compiling.Compiler(config, pool, options, label)  # noqa: E731
                with standard_reserved():
                    made = _CodeSearch(artifact, config, compiler, cache, label).code()
                artifact.isolated[config] = made
                artifact.seconds = artifact.seconds or time.perf_counter() - started
    return made


def own_code(artifact: Artifact, config: EngineConfig) -> Code:
    """Return for workers the code of an artifact that this process has compiled completely."""
    return _CodeSearch(artifact, config, _nothing_to_compile, None, f"the {artifact.kind}").code()


def _nothing_to_compile() -> Compiler:
    raise AegisInternalError("this process has not compiled the artifact")


class _CodeSearch:
    """Finds or compiles the code of one artifact; ``compiler`` is called only if code is missing."""

    def __init__(
        self,
        artifact: Artifact,
        config: EngineConfig,
        compiler: Callable[[], Compiler],
        cache: Cache | None,
        label: str,
    ) -> None:
        self._artifact, self._config, self._cache, self._label = artifact, config, cache, label
        self._compiler = compiler
        self._made_compiler: Compiler | None = None
        self._mark = f"{config.fingerprint()} {cache_key_part(artifact.admitted_under)} isolated v2"
        self._made: dict[str, SealedFile] = {}
        """Code files, by the digest of the module."""
        self._from_cache = 0
        self._world: Any = None

    def code(self) -> Code:
        """Return the code of all modules."""
        artifact: Any = self._artifact
        parts: Mapping[int, Artifact] = {0: artifact} if artifact.kind == "module" else artifact.modules
        self._take_digests(parts)
        numbers = {part.digest: number for number, part in reversed([*parts.items()])}
        if len(numbers) > MAX_MODULES:
            raise ArtifactError(
                f"{self._label}: too many core modules for a worker ({len(numbers):,}/{MAX_MODULES}): "
                "run the component without isolation"
            )
        missing = [number for number in numbers.values() if not self._found(parts[number])]
        known = artifact.kind == "module" or self._known_world()
        apart = [number for number in missing if self._apart(parts[number])]
        together = [number for number in missing if number not in apart]
        if artifact.kind == "component" and (together or not known):
            self._compile_component(artifact, parts, together)
        for number in apart:
            self._compile_alone(parts[number])
        artifact.cached = artifact.cached or (known and not missing and self._from_cache == len(numbers))
        return Code({number: self._made[part.digest] for number, part in parts.items()}, self._world)

    def _take_digests(self, parts: Mapping[int, Artifact]) -> None:
        """Load the digests of a component's modules from the cache, or store them there, under the component's digest.

        Computing them takes about as long as the component's own digest.
        """
        if self._cache is None or self._artifact.kind == "module":
            return
        name = self._cache.name(self._artifact.digest, f"digests of modules {sorted(parts)}")
        kept = self._cache.get(name)
        if kept is None:
            self._cache.put(name, b"".join(bytes.fromhex(part.digest) for part in parts.values()))
            return
        for at, part in enumerate(parts.values()):
            part.digest = kept[at * _DIGEST_BYTES : (at + 1) * _DIGEST_BYTES].hex()

    # -- existing code -------------------------------------------------------------------------

    def _found(self, part: Artifact) -> bool:
        found = self._loaded(part)
        if found is None:
            found = self._kept(part) or self._own(part)
            self._from_cache += found is not None
        if found is not None:
            self._made[part.digest] = found
        return found is not None

    def _loaded(self, part: Artifact) -> SealedFile | None:
        """Return the code if this process has it loaded."""
        code = part.serialised(self._config)
        return None if code is None else sealed_copy(code)

    def _kept(self, part: Artifact) -> SealedFile | None:
        """Return cached code that a worker compiled."""
        if self._cache is None:
            return None
        name = self._name(part, self._cache)
        descriptor = self._cache.mapped(name)
        if descriptor is not None:
            return SealedFile(descriptor)
        code = self._cache.get(name)
        return None if code is None else sealed_copy(code)

    def _own(self, part: Artifact) -> SealedFile | None:
        """Return a copy of cached code that a process compiled for its own use.

        Workers do not get the cache file itself, because other processes execute its content.
        """
        if self._cache is None:
            return None
        name = part.name_in(self._cache, self._config)
        descriptor = self._cache.mapped(name)
        code = self._cache.get(name) if descriptor is None else SealedFile(descriptor).read()
        return None if code is None else sealed_copy(code)

    def _known_world(self) -> bool:
        """Set the world if it is known without validating the component; return whether it is."""
        self._world = self._artifact.known_world or self._artifact.reported_world  # type: ignore[attr-defined]
        if self._world is None and self._cache is not None:
            cached = self._cache.get(self._world_name(self._cache))
            with suppress(ProtocolError):
                self._world = None if cached is None else compiling.validated_world(self._artifact, decode(cached))
        return self._world is not None

    # -- names in the cache --------------------------------------------------------------------

    def _apart(self, part: Artifact) -> bool:
        """Return whether a module is compiled alone, so that every component with the module can use its code."""
        return part is self._artifact or (self._cache is not None and part.size >= _APART_BYTES)

    def _name(self, part: Artifact, cache: Cache) -> str:
        if self._apart(part):
            return cache.name(part.digest, self._mark)
        return cache.name(self._artifact.digest, f"{self._mark} module {part.digest}")

    def _world_name(self, cache: Cache) -> str:
        return cache.name(self._artifact.digest, f"{self._mark} world")

    # -- compiling -----------------------------------------------------------------------------

    def _compile_component(self, component: Any, parts: Mapping[int, Artifact], numbers: Sequence[int]) -> None:
        """Let a worker validate the component, report its world, and compile some of its modules."""
        answer = self._compiled(component, numbers)
        self._world = answer.world
        for number, file in zip(numbers, answer.files, strict=True):
            self._keep(parts[number], file)
        if self._cache is not None:
            self._cache.put(self._world_name(self._cache), bytes(encode(answer.reported)))
            if component.known_world is None:
                record.keep_record(
                    self._cache, component.digest, component.admitted_under,
                    record.ComponentRecord(component.structure, component.program, None), component.proposals,
                )  # fmt: skip

    def _compile_alone(self, part: Artifact) -> None:
        """Let a worker that sees only this module compile it."""
        self._keep(part, self._compiled(part, (0,)).files[0])

    def _compiled(self, artifact: Artifact, numbers: Sequence[int]) -> Compiled:
        if self._made_compiler is None:
            self._made_compiler = self._compiler()
        return self._made_compiler.compiled(artifact, numbers)

    def _keep(self, part: Artifact, file: SealedFile) -> None:
        self._made[part.digest] = file
        if self._cache is not None:
            self._cache.put(self._name(part, self._cache), file.read())
