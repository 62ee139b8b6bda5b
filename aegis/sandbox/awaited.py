"""Sandboxes on an event loop: calls, exports, creation and closing, each on a thread of Aegis."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from aegis.engine.threads.event_loop import finish_on_loop, supervise_on_loop
from aegis.engine.threads.queue import GuestThreadPool
from aegis.errors import PolicyError
from aegis.sandbox.exports import BoundName, Namespace, functions_by_resource, no_constructor
from aegis.text import shown
from aegis.wit.naming import pascal, snake
from aegis.wit.types import Interface, Resource

if TYPE_CHECKING:
    from aegis.sandbox.run import GuestRun
    from aegis.wit.values import ResourceHandle

__all__ = ["async_namespace", "awaited_call", "off_loop", "on_loop", "turns"]


async def on_loop(run: GuestRun, function: Callable[[], Any]) -> Any:
    """Run ``function``, which calls the guest of ``run``, on a guest thread, and await its end."""
    return await supervise_on_loop(function, run.door, run.cancel_now, run.leave, run.backend.turns)


async def awaited_call(run: GuestRun, name: Any, args: tuple[Any, ...]) -> Any:
    """Call an export, and await its result; calls of an asynchronous component may overlap."""
    run.live()
    if run.turns is not None:
        return await run.turns.concurrent().call(name, args)
    return await on_loop(run, lambda: run.call(name, *args))


async def off_loop(function: Callable[[], Any]) -> Any:
    """Run ``function``, which runs no guest, on a thread of Aegis; await its end also if the task is cancelled."""
    return await finish_on_loop(function)


def turns(most: int) -> GuestThreadPool:
    """Return the pool of a runtime with a bound of its own; raise ``PolicyError`` unless it is a positive integer."""
    if type(most) is not int or most < 1:
        raise PolicyError(f"max_concurrent_calls must be a positive integer, not {shown(most, 40)}")
    return GuestThreadPool(most)


def async_namespace(run: GuestRun, bound: Namespace, table: Interface) -> Namespace:
    """Return the interface ``bound`` of a run with functions to await instead of functions that block."""
    full: str = bound.__interface__
    members: dict[str, Any] = {}
    for name in table.functions:
        if not name.startswith("["):
            members[snake(name)] = _awaited(run, BoundName(full, name, table))
    own = [name for name, of in table.types.items() if isinstance(of, Resource) and of.owner == table.name]
    resources: dict[str, list[str]] = {**{name: [] for name in own}, **functions_by_resource(table)}
    for resource, functions in resources.items():
        members[pascal(resource)] = _AsyncResource(run, full, resource, functions, table)
    return Namespace(bound.__name__, members, full)


def _awaited(run: GuestRun, name: BoundName) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Return a coroutine function that calls the export ``name``, under its Python name."""

    async def call(*args: Any) -> Any:
        return await awaited_call(run, name, args)

    call.__name__ = call.__qualname__ = snake(name.function.rpartition(".")[2] or "call")
    return call


class _AsyncResource:
    """A resource of a guest: its constructor, and its other functions as attributes, all to be awaited."""

    def __init__(self, run: GuestRun, interface: str, resource: str, functions: list[str], table: Interface) -> None:
        self._run, self._resource = run, resource
        self._constructor: Callable[..., Coroutine[Any, Any, Any]] | None = None
        for name in functions:
            call = _awaited(run, BoundName(interface, name, table))
            own = name.partition(".")[2]
            if own:
                setattr(self, snake(own), call)
            else:
                self._constructor = call

    def __call__(self, *args: Any) -> Coroutine[Any, Any, Any]:
        if self._constructor is None:
            no_constructor(self._resource)
        return self._constructor(*args)

    async def drop(self, handle: ResourceHandle) -> None:
        """Drop a handle, as its own method ``drop`` does."""
        await on_loop(self._run, handle.drop)
