"""From bytes to an artifact, a module or a component: admission, validation, compiling.

Admission comes first and asks in the order of cost: size, magic, then what the artifact says of itself. Nothing
reaches the compiler that a cheaper check can reject.
"""

from __future__ import annotations

from collections.abc import Callable

from aegis.engine.compile.artifact import Module, admit_module, admit_size, validate_module
from aegis.engine.compile.cache import Cache
from aegis.engine.compile.code import Artifact
from aegis.engine.compile.config import EngineConfig
from aegis.limits import Limits
from aegis.support.lean import TYPE_CHECKING
from aegis.wasm.binary import ModuleInfo, is_component
from aegis.wasm.digest import sha256_hex

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component

__all__ = ["admit_artifact", "compile_artifact", "validate_artifact"]


def admit_artifact(data: bytes, limits: Limits, cache: Cache | None, what: str) -> Module | Component:
    """Check size, magic and structure of ``data``, called ``what`` in errors; return what is not compiled yet.

    Raise :class:`~aegis.errors.ArtifactError`, or ``MemoryExceeded`` for a component of too many instances.
    """
    admit_size(data, limits, what)
    if is_component(data):
        from aegis.component.planning.artifact import Component, admit_component

        digest = sha256_hex(data)
        return Component(data, admit_component(data, digest, limits, cache, what), digest, cache, limits)
    return Module(data, admit_module(data, what), sha256_hex(data), cache, limits)


def compile_artifact(
    data: bytes,
    limits: Limits,
    choose: Callable[[Artifact], EngineConfig],
    cache: Cache | None,
    what: str = "the module",
) -> Module | Component:
    """Admit and compile a binary module or component for the engine that ``choose`` says for it.

    It is compiled without the pool if it does not fit in there.

    Raise :class:`~aegis.errors.ArtifactError` with the reason.
    """
    artifact = admit_artifact(data, limits, cache, what)
    artifact.prepare(choose, what)
    return artifact


def validate_artifact(
    data: bytes, limits: Limits, config: EngineConfig, what: str = "the module"
) -> ModuleInfo | Component:
    """Admit and validate a binary module without compiling it; a component is compiled, for its types."""
    artifact = admit_artifact(data, limits, None, what)
    if isinstance(artifact, Module):
        return validate_module(data, artifact.info, limits, config, what)
    artifact.prepare(lambda _: config, what)
    return artifact
