"""Compilation in a worker, the worker's side: compiles core modules and writes their code to a file.

:mod:`aegis.isolation.parent.compiling` bounds the compilation and does not trust the result.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from aegis.component.planning.plain_world import world_to_plain
from aegis.engine.compile.code import Artifact
from aegis.isolation.protocol.specs import Compile
from aegis.support.lean import Any, ClassVar

__all__ = ["compile_here"]

_CHUNK_BYTES = 1 << 20
"""Bytes of code written at once."""


class _CodeOnlyModule(Artifact):
    """A core module that is only compiled."""

    kind: ClassVar[str] = "module"


def compile_here(wanted: Compile, descriptors: Sequence[int]) -> Any:
    """Compile core modules of the artifact in one descriptor; write their code to another.

    For a component, return its world as plain data and the code length of each module; for a module, ``None``.
    """
    data = os.pread(descriptors[wanted.data], os.fstat(descriptors[wanted.data]).st_size, 0)
    world: Any = None
    parts: dict[int, Any] = {}
    if wanted.kind == "module":
        parts[0] = _CodeOnlyModule(data, "", None, wanted.limits)
        parts[0].proposals = wanted.config.proposals
    else:
        from aegis.component.planning.artifact import Component, admit_component

        record = admit_component(data, "", wanted.limits, None, "the component", wanted.config.proposals)
        component = Component(data, record, "", None, wanted.limits, wanted.config.proposals)
        world, parts = world_to_plain(component.validated()), component.modules
    lengths: list[int] = []
    for number in wanted.modules:
        part = parts[number]
        code = part.compile_to_bytes(wanted.config)
        for at in range(0, len(code), _CHUNK_BYTES):
            os.pwrite(descriptors[wanted.code], code[at : at + _CHUNK_BYTES], sum(lengths) + at)
        lengths.append(len(code))
    return None if wanted.kind == "module" else [world, lengths]
