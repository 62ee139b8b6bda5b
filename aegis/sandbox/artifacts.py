"""Admission, validation and compilation of an artifact, a module or a component.

Admission comes first, and its checks are in the order of their cost: size, magic number, then structure. So the
compiler never sees an artifact that a cheaper check rejects.
"""

from __future__ import annotations

from collections.abc import Callable

from aegis.engine.compile.artifact import Module, admit_module, admit_size, validate_module
from aegis.engine.compile.cache import Cache
from aegis.engine.compile.code import Artifact
from aegis.engine.compile.config import EngineConfig
from aegis.errors import ArtifactError
from aegis.limits import Limits
from aegis.support.lean import TYPE_CHECKING
from aegis.wasm.binary import ModuleInfo, is_component
from aegis.wasm.digest import sha256_hex

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component

__all__ = ["admit_artifact", "compile_artifact", "validate_artifact"]


def admit_artifact(
    data: bytes, limits: Limits, cache: Cache | None, what: str, proposals: tuple[str, ...] = ()
) -> Module | Component:  # fmt: skip
    """Check size, magic number and structure of ``data``; return the artifact, not compiled yet.

    ``what`` names it in errors. ``proposals`` are the enabled optional ones.

    Raise :class:`~aegis.errors.ArtifactError`, or ``MemoryExceeded`` for a component with
    too many instances.
    """
    admit_size(data, limits, what)
    if is_component(data):
        from aegis.component.planning.artifact import Component, admit_component

        digest = sha256_hex(data)
        record = admit_component(data, digest, limits, cache, what, proposals)
        return Component(data, record, digest, cache, limits, proposals)
    module = Module(data, admit_module(data, what, proposals), sha256_hex(data), cache, limits)
    module.proposals = proposals
    return module


def compile_artifact(
    data: bytes,
    limits: Limits,
    choose: Callable[[Artifact], EngineConfig],
    cache: Cache | None,
    what: str = "the module",
) -> Module | Component:
    """Admit a binary module or component, and compile it for the engine that ``choose`` returns for it.

    An artifact that exceeds the slots of the pool is compiled for an engine without one. Raise
    :class:`~aegis.errors.ArtifactError` with the reason.
    """
    artifact = admit_artifact(data, limits, cache, what)
    artifact.prepare(choose, what)
    return artifact


def validate_artifact(
    data: bytes, limits: Limits, config: EngineConfig, what: str = "the module"
) -> ModuleInfo | Component:
    """Admit and validate a binary module without compiling it. A component is compiled, because its types need that."""
    artifact = admit_artifact(data, limits, None, what, config.proposals)
    if isinstance(artifact, Module):
        return validate_module(data, artifact.info, limits, config, what)
    if config.heap:  # compiling is only for workers, so read the types alone
        try:
            artifact.validate()
        except ArtifactError as error:
            raise ArtifactError(f"{what}: {error}") from None
    else:
        artifact.prepare(lambda _: config, what)
    return artifact
