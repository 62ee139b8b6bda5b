"""The sandboxes of an application: a new one for each request, or one for several requests in turn."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aegis.errors import SandboxStateError
from aegis.runtime import Aegis
from aegis.sandbox.awaited import off_loop

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component
    from aegis.engine import Module
    from aegis.sandbox.sandbox import Sandbox

__all__ = ["Sandboxes"]


class Sandboxes:
    """Opens sandboxes, and keeps those that may serve more requests; each serves one at a time."""

    def __init__(
        self, runtime: Aegis, component: Module | Component, requests: int, options: Mapping[str, Any]
    ) -> None:
        self._runtime, self._component, self._requests, self._options = runtime, component, requests, options
        self._idle: list[tuple[Sandbox, int]] = []
        """Sandboxes that wait, with the number of requests that each has served."""

    async def take(self) -> tuple[Sandbox, int]:
        """Return a sandbox, and the number of requests that it has served."""
        if self._idle:
            return self._idle.pop()
        return await self._runtime.asandbox(self._component, **self._options), 0

    async def give(self, sandbox: Sandbox, served: int, *, returned: bool) -> None:
        """Keep a sandbox after a request that its guest returned from, or close it."""
        if returned and served + 1 < self._requests and sandbox.state == "ready":
            self._idle.append((sandbox, served + 1))
            return
        with suppress(SandboxStateError):  # abandoned: its thread does not return, and frees it if it ever does
            await sandbox.aclose()

    async def probe(self) -> None:
        """Open a sandbox and keep it for the next request, so that mistakes of the policy are reported before any."""
        await off_loop(lambda: self._runtime.sandbox().close())  # it checks the granted files
        sandbox, served = await self.take()
        await self.give(sandbox, served - 1, returned=True)

    async def close(self) -> None:
        """Close the sandboxes that wait."""
        while self._idle:
            sandbox, _ = self._idle.pop()
            await sandbox.aclose()
