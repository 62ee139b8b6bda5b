"""Releases host objects that a host function returned but the guest never received.

By returning an ``own`` handle, a host function gives up ownership of the object. If the handle table is full, the
result has the wrong type, or the deadline has passed, the guest never receives the handle and never drops it. Aegis
then drops the object as the guest would have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aegis.engine.threads.guest_thread import thread_state
from aegis.support.lean import late
from aegis.wit.naming import snake
from aegis.wit.types import List, Option, Own, Record, Result, Tuple, Variant, WitType, children
from aegis.wit.values import Err, Ok, ResourceHandle, Some

if TYPE_CHECKING:
    from aegis.engine.call.door import Door
    from aegis.engine.threads import event_loop
else:  # it imports asyncio
    event_loop = late("aegis.engine.threads.event_loop")

__all__ = ["drop_object", "owns", "release"]


def owns(of: WitType, imported: int) -> bool:
    """Return whether values of type ``of`` can contain an ``own`` handle to a host resource (key < ``imported``)."""
    if isinstance(of, Own):
        return of.resource.key < imported
    return any(owns(inner, imported) for inner in children(of))


def drop_object(value: Any, door: Door | None = None) -> None:
    """Call the object's ``__drop__`` method if it has one, and await it on the event loop of the current call.

    ``door`` is that of the call in which the guest drops the object; without it, the call has ended or failed. Raise
    ``TypeError`` for an asynchronous method if no event loop awaits the call or the sandbox.
    """
    drop = getattr(value, "__drop__", None)
    if drop is not None:
        left = drop()
        if hasattr(type(left), "__await__"):
            name = f"{type(value).__name__}.__drop__"
            if door is None or thread_state.loop is None:
                event_loop.await_at_end(left, name)
            else:
                event_loop.await_on_loop(door, name, left)


def release(of: WitType | None, value: Any, imported: int) -> None:
    """Drop every host object whose ownership ``value`` would have passed to the guest; ignore their exceptions."""
    if of is not None and owns(of, imported):
        for made in _objects(of, value, imported):
            with suppress(Exception):
                drop_object(made)


def _objects(of: WitType, value: Any, imported: int) -> Iterator[Any]:
    """Yield the host objects behind ``own`` handles in ``value``; tolerate a value that does not match its type."""
    match of:
        case Own(resource):
            if resource.key < imported and value is not None and not isinstance(value, ResourceHandle):
                yield value
        case List(element):
            for item in value if isinstance(value, Sequence) else ():
                yield from _objects(element, item, imported)
        case Tuple(elements):
            for inner, item in zip(elements, value if isinstance(value, Sequence) else (), strict=False):
                yield from _objects(inner, item, imported)
        case Option(element):
            yield from _objects(element, value.value if isinstance(value, Some) else value, imported)
        case Result():
            yield from _of_result(of, value, imported)
        case Record():
            for name, inner in of.fields:
                yield from _objects(inner, _field(value, name), imported)
        case Variant():
            yield from _of_variant(of, value, imported)


def _of_result(of: Result, value: Any, imported: int) -> Iterator[Any]:
    inner = of.err if isinstance(value, Err) else of.ok
    if inner is not None:
        yield from _objects(inner, value.value if isinstance(value, (Ok, Err)) else value, imported)


def _of_variant(of: Variant, value: Any, imported: int) -> Iterator[Any]:
    for (name, inner), made in zip(of.cases, of.python or (), strict=False):
        if inner is not None and isinstance(value, made):
            yield from _objects(inner, getattr(value, "value", None), imported)
        elif inner is not None and isinstance(value, tuple) and value[:1] == (name,) and len(value) == 2:
            yield from _objects(inner, value[1], imported)


def _field(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(name, value.get(snake(name)))
    return getattr(value, snake(name), None)
