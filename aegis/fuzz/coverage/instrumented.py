"""An instrumented copy of a target. Its runs also return what the probes wrote, for each call."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING

from aegis.fuzz.case import Case, Trace
from aegis.fuzz.stubs import ImportStubs
from aegis.fuzz.target import Target
from aegis.wasm.edges import Counted

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component
    from aegis.engine.compile.artifact import Module
    from aegis.engine.store.memory import LinearMemory
    from aegis.runtime import Aegis
    from aegis.sandbox.sandbox import Sandbox
    from aegis.wasm.comparisons import Comparing

__all__ = ["InstrumentedTarget", "size_of"]


class InstrumentedTarget(Target):
    """A copy of ``original`` whose artifact is instrumented. Test cases of one are test cases of the other.

    ``modules`` are the instrumented modules, one for each added memory. Values and endings of calls are those of the
    original; fuel, memory and offsets in traps are not. A copy that records comparisons does not read what calls used.
    """

    def __init__(
        self, original: Target, runtime: Aegis, artifact: Module | Component, modules: Sequence[Counted | Comparing], *,
        hostile: bool,
    ) -> None:  # fmt: skip
        # The copy has the exports, allocator and signatures of the original, so that both take the same values.
        own = {name: value for name, value in vars(original).items() if not isinstance(_of(name), cached_property)}
        vars(self).update(own)
        self.runtime, self.artifact = runtime, artifact
        self.stubs = ImportStubs(artifact, hostile=hostile)
        self.detailed = False  # predicates judge the original
        self.sizes = tuple(map(size_of, modules))
        self._modules = tuple(modules)
        self._counts = all(isinstance(module, Counted) for module in modules)
        self._blank = [bytes(module.counters if isinstance(module, Counted) else module.head) for module in modules]
        self.written: list[bytes] = []
        """What the probes wrote in each step of the latest run."""
        self.begun = b""
        """What they wrote before the first step; empty if no code of the guest ran then."""
        self._begins = artifact.starts() or self._initialize

    def run(
        self, case: Case, runtime: Aegis | None = None, log: list[str] | None = None, host: list[str] | None = None, *,
        read: Collection[int] | None = None,
    ) -> Trace:  # fmt: skip
        """Run a test case as :meth:`Target.run` does, and set :attr:`written`."""
        self.written, self.begun = [], b""
        return super().run(case, runtime, log, host, read=read if self._counts else ())

    def _watcher(self, sandbox: Sandbox) -> Callable[[], object]:
        """Return a function that notes what the probes wrote in the latest step."""
        memories, add, blank = sandbox.added_memories(), self.written.append, self._blank
        if self._counts and len(memories) == 1:
            take = partial(memories[0].take, self.sizes[0], blank[0])
        else:
            take = partial(self._taken, memories)
        if self._begins:
            self.begun = take()
        return lambda: add(take())

    def _taken(self, memories: Sequence[LinearMemory]) -> bytes:
        """Return what the probes wrote, and clear it. Each part but the last has the size of what may be written."""
        parts = []
        for memory, module, size, blank in zip(memories, self._modules, self.sizes, self._blank, strict=True):
            used = size if isinstance(module, Counted) else module.used(memory.read(0, 4))
            parts.append(memory.take(used, blank))
        return b"".join(
            (*(part.ljust(size, b"\0") for part, size in zip(parts[:-1], self.sizes, strict=False)), parts[-1])
        )


def size_of(module: Counted | Comparing) -> int:
    """Return how many bytes of the added memory an instrumented module may use."""
    return module.counters if isinstance(module, Counted) else module.size


def _of(name: str) -> object:
    """Return an attribute of the class of targets; ``None`` if only its instances have it."""
    return getattr(Target, name, None)
