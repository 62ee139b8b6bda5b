"""A copier of :mod:`tests.component.tasks.async_guests` in a sandbox, with neutral values, and its leftovers."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

from aegis import Aegis, Bound, Sandbox, StreamWriter
from aegis.wit.python_types import with_python_types
from aegis.wit.types import Function, Future, Interface, List, Stream, WitType
from tests.component.aegis_side import RUNTIME, from_image, to_image

__all__ = ["Copier", "cut", "feeds", "is_empty", "leftovers"]


def table(of: WitType | None, *, imports: bool) -> Interface:
    """Return the types of a copier's exports."""
    listed = List("u8" if of is None else of)
    ends: dict[str, tuple[tuple[tuple[str, WitType], ...], WitType]] = {
        "collect": ((("s", Stream(of)), ("room", "u32"), ("seed", "u32"), ("most", "u32")), listed),
        "feed": ((("x", listed), ("room", "u32"), ("seed", "u32")), Stream(of)),
        "relay": ((("s", Stream(of)), ("room", "u32"), ("seed", "u32")), Stream(of)),
        "same": ((("s", Stream(of)),), Stream(of)),
        "same-future": ((("f", Future(of)),), Future(of)),
        "keep": ((("f", Future(of)),), listed),
        "promise": ((("x", listed),), Future(of)),
    }
    if imports:
        ends = {
            "gather": ((("room", "u32"), ("seed", "u32"), ("most", "u32")), listed),
            "pour": ((("x", listed), ("room", "u32"), ("seed", "u32")), "u32"),
        }
    return Interface("", {name: Function(*types, is_async=True) for name, types in ends.items()})


class Copier:
    """A sandbox of the component ``text`` for elements of type ``of``; ``source`` and ``sink`` serve its imports."""

    def __init__(
        self, text: str, of: WitType | None, source: Callable[..., Any] | None = None,
        sink: Callable[..., Any] | None = None, runtime: Aegis = RUNTIME,
    ) -> None:  # fmt: skip
        self.of = None if of is None else with_python_types(of)
        imports: dict[str, Any] = {}
        if source is not None:
            pace: tuple[tuple[str, WitType], ...] = (("room", "u32"), ("seed", "u32"))
            given = Function(pace, Stream(self.of), is_async=True)
            taken = Function((("s", Stream(self.of)), *pace), "u32", is_async=True)
            imports["source"] = Bound(Interface("", {"source": given}), source)
            imports["sink"] = Bound(Interface("", {"sink": taken}), sink)
        self.sandbox: Sandbox = runtime.sandbox(runtime.load_wat(text), imports=imports)
        self._table = table(self.of, imports=source is not None)
        self.call: Any = self.sandbox.bind(self._table)
        self.acall: Any = self.sandbox.abind(self._table)

    def images(self, values: list[Any]) -> list[Any]:
        """Return the Python values of neutral elements."""
        return values if self.of is None else [to_image(self.of, value) for value in values]

    def back(self, values: Any) -> list[Any]:
        """Return the neutral values of elements that the guest gave; those without a value come as numbers in lists."""
        return [None] * len(values) if self.of is None else [from_image(self.of, value) for value in values]

    def whole(self, pieces: Any) -> list[Any]:
        """Return the neutral values of the pieces that a reader returned."""
        return self.back(b"".join(pieces) if self.of == "u8" else [one for piece in pieces for one in piece])

    def listed(self, values: list[Any]) -> Any:
        """Return neutral elements as the argument for a ``list``."""
        return bytes(len(values)) if self.of is None else bytes(values) if self.of == "u8" else self.images(values)

    async def asettle(self) -> None:
        """Run the guest until its tasks have ended, by calls that wait for the host."""

        async def waits() -> Any:
            for _ in range(3):
                await asyncio.sleep(0)
            for _ in ():
                yield

        for _ in range(300):
            if is_empty(self.sandbox):
                break
            await self.acall.collect(waits(), 1, 1, 1)

    def settle(self) -> None:
        """Like :meth:`asettle`, without an event loop."""
        asyncio.run(self.asettle())


def leftovers(sandbox: Sandbox) -> dict[str, int]:
    """Return how much of each kind is left in a sandbox: handles, tasks, operations and ends that the host keeps.

    Of an isolated sandbox, that is how much the parent keeps; its tasks are the calls that the worker has.
    """
    store: Any = sandbox._run.store
    work = getattr(store, "overlapping", None)
    if work is not None:
        return {
            "tasks": len(work._operations), "operations": len(work._pending), "posts": len(work._posts),
            "ends": 0 if store.handles._ends is None else store.handles._ends.used, "lent": store.handles.lent,
            "handles": len(store.handles.objects) + len(store.handles.held) + len(work._pending),
        }  # fmt: skip
    state = store.state
    tasks = state.tasks
    return {
        "handles": state.handles.used,
        "tasks": tasks._alive,
        "operations": len(tasks.operations),
        "ends": len(tasks._kept),
        "undo": len(state.handles.undo),
        "lent": len(state.handles.lent),
    }


def is_empty(sandbox: Sandbox) -> bool:
    """Return whether nothing is left of the calls of a sandbox."""
    return not any(leftovers(sandbox).values())


def cut(values: Any, choose: random.Random) -> Iterator[Any]:
    """Yield the pieces of a sequence at random places."""
    at = 0
    while at < len(values):
        size = choose.choice((1, 1, 2, 3, 7, len(values)))
        yield values[at : at + size]
        at += size


def feeds(copier: Copier, values: list[Any], choose: random.Random, *, looped: bool) -> Any:
    """Return an object for a stream of the neutral ``values``: one of all kinds that may be passed."""
    images = copier.images(values)
    flat = copier.of == "u8"
    kind = choose.choice(("list", "generator", "thread", *(("async", "task") if looped else ())))
    pieces = list(cut(bytes(images) if flat else images, choose))
    elements = pieces if flat else images
    if kind == "list":
        return bytes(images) if flat and choose.random() < 0.5 else elements
    if kind == "generator":
        return (one for one in elements)
    if kind == "async":

        async def generate() -> Any:
            for one in elements:
                if choose.random() < 0.3:
                    await asyncio.sleep(0)
                yield one

        return generate()
    writer: StreamWriter[Any] = StreamWriter(limit=choose.choice((1, 3, 1000)))
    if kind == "task":
        _TASKS.add(asyncio.ensure_future(_written(writer, pieces)))
    else:
        threading.Thread(target=_write, args=(writer, pieces), daemon=True).start()
    return writer


_TASKS: set[Any] = set()


async def _written(writer: StreamWriter[Any], pieces: list[Any]) -> None:
    try:
        async with writer:
            for piece in pieces:
                await writer.awrite(piece)
    except BrokenPipeError:
        pass
    finally:
        _TASKS.discard(asyncio.current_task())


def _write(writer: StreamWriter[Any], pieces: list[Any]) -> None:
    try:
        with writer:
            for piece in pieces:
                writer.write(piece)
    except BrokenPipeError:
        pass
