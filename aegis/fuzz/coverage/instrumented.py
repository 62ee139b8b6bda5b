"""An instrumented copy of a target. Its runs also return what the probes wrote, for each call."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from aegis.fuzz.case import Case, Step, StepResult, Trace
from aegis.fuzz.stubs import ImportStubs
from aegis.fuzz.target import Target

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component
    from aegis.engine.compile.artifact import Module
    from aegis.engine.store.memory import LinearMemory
    from aegis.runtime import Aegis
    from aegis.sandbox.sandbox import Sandbox

__all__ = ["InstrumentedTarget"]


class InstrumentedTarget(Target):
    """A copy of ``original`` whose artifact is instrumented. Test cases of one are test cases of the other.

    ``sizes`` are the numbers of bytes that probes use, one for each added memory. Values and endings of calls are those
    of the original; fuel, memory and offsets in traps are not.
    """

    def __init__(
        self, original: Target, runtime: Aegis, artifact: Module | Component, sizes: Sequence[int], *, hostile: bool
    ) -> None:
        # The copy has the exports, allocator and signatures of the original, so that both take the same values.
        own = {name: value for name, value in vars(original).items() if not isinstance(_of(name), cached_property)}
        vars(self).update(own)
        self.runtime, self.artifact = runtime, artifact
        self.stubs = ImportStubs(artifact, hostile=hostile)
        self.detailed = False  # predicates judge the original
        self.sizes = tuple(sizes)
        self._blank = [bytes(size) for size in sizes]
        self._memories: tuple[LinearMemory, ...] = ()
        self.written: list[bytes] = []
        """What the probes wrote in each step of the latest run."""
        self.begun = b""
        """What they wrote before the first step; empty if no code of the guest ran then."""
        self._begins = artifact.starts() or self._initialize

    def run(
        self, case: Case, runtime: Aegis | None = None, log: list[str] | None = None, host: list[str] | None = None
    ) -> Trace:  # fmt: skip
        """Run a test case as :meth:`Target.run` does, and set :attr:`written`."""
        self._memories, self.written, self.begun = (), [], b""
        return super().run(case, runtime, log, host)

    def _perform(self, sandbox: Sandbox, step: Step, values: Sequence[Any]) -> StepResult:
        if not self._memories:
            self._memories = sandbox.added_memories()
            if self._begins:
                self.begun = self._taken()
        result = super()._perform(sandbox, step, values)
        self.written.append(self._taken())
        return result

    def _taken(self) -> bytes:
        """Return what the probes wrote, and clear it."""
        parts = []
        for memory, size, blank in zip(self._memories, self.sizes, self._blank, strict=True):
            parts.append(memory.read(0, size))
            memory.write(0, blank)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _of(name: str) -> object:
    """Return an attribute of the class of targets; ``None`` if only its instances have it."""
    return getattr(Target, name, None)
