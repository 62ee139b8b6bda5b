"""The registry of sources, by name."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from aegis.attack.inputs import Artifacts, Make
from aegis.errors import PolicyError
from aegis.text import printable, similar_names

__all__ = ["SOURCES", "checked", "source"]

SOURCES: dict[str, tuple[str, str]] = {
    "smith": ("aegis.attack.smith", "random modules of wasm-tools smith"),
    "wit": ("aegis.attack.smith", "components around random worlds of wasm-tools wit-smith"),
    "mutate": ("aegis.attack.smith", "mutants of the seed artifacts by wasm-tools mutate"),
    "flips": ("aegis.attack.bytewise", "the seed artifacts with bytes and sections changed"),
    "liar": ("aegis.attack.abi_fuzzer", "components that break the canonical ABI, by hypothesis"),
    "tasks": ("aegis.attack.task_fuzzer", "asynchronous components that use streams, futures and tasks in any order"),
}
"""For each source, the module with a function of that name, and a description."""


def checked(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return ``names`` without duplicates; all sources if it is empty. Raise ``PolicyError`` for an unknown source."""
    for name in names:
        if name not in SOURCES:
            close = similar_names(name, list(SOURCES), 1)
            hint = f": did you mean {close[0]}?" if close else "."
            raise PolicyError(f"unknown source {printable(name)!r}{hint} The sources are {', '.join(SOURCES)}")
    return tuple(dict.fromkeys(names)) or tuple(SOURCES)


def source(name: str, seed: int, artifacts: Artifacts) -> Make:
    """Return a source with its seed and seed corpus."""
    make: Callable[[int, Artifacts], Make] = getattr(import_module(SOURCES[name][0]), name)
    return make(seed, artifacts)
