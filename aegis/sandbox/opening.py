"""The creation of a sandbox off the event loop."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aegis.engine.threads.event_loop import finish_on_loop
from aegis.errors import SandboxStateError
from aegis.sandbox.awaited import on_loop

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component
    from aegis.engine import Module
    from aegis.sandbox.run import GuestRun
    from aegis.sandbox.sandbox import Sandbox

__all__ = ["SandboxOpening"]


class SandboxOpening:
    """A sandbox to be created off the event loop: the value of ``async with``, or of ``await``.

    ``async with`` also closes it off the loop. If the task is cancelled, the start functions of the guest end, and
    nothing of the sandbox is left.
    """

    __slots__ = ("_artifact", "_make", "_new_run", "_sandbox")

    def __init__(
        self, make: Callable[[GuestRun], Sandbox], new_run: Callable[[], Coroutine[Any, Any, GuestRun]],
        artifact: Module | Component | None,
    ) -> None:  # fmt: skip
        self._make, self._new_run, self._artifact = make, new_run, artifact
        self._sandbox: Sandbox | None = None

    async def _open(self) -> Sandbox:
        run, artifact = await self._new_run(), self._artifact
        if artifact is not None:
            try:
                await on_loop(run, lambda: run.load(artifact))
            except GeneratorExit:  # nothing can be awaited any more; the thread frees the sandbox
                raise
            except BaseException:
                with suppress(SandboxStateError):  # abandoned: its thread does not return, and frees it if it ever does
                    await finish_on_loop(run.close)
                raise
        return self._make(run)

    def __await__(self) -> Generator[Any, Any, Sandbox]:
        return self._open().__await__()

    async def __aenter__(self) -> Sandbox:
        self._sandbox = await self._open()
        return self._sandbox

    async def __aexit__(self, *exception: object) -> None:
        if self._sandbox is not None:
            await self._sandbox.aclose()
