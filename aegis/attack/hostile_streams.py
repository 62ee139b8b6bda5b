"""Streams and futures of a hostile host: they raise, have elements of a wrong type, never end, or end early.

A test case has lists for streams and values for futures. :class:`HostileStreams` passes other objects instead, and
reads the streams that the guest returns in part, to their ends, or not at all. No generator may be left open.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from random import Random
from typing import Any

from aegis.errors import CallError, HostError, SandboxStateError
from aegis.wit.naming import snake
from aegis.wit.streams import FutureWriter, StreamWriter
from aegis.wit.types import Function, Future, List, Option, Record, Result, Stream, Tuple, WitType, has_ends
from aegis.wit.values import Err

__all__ = ["HostileStreams"]

_MAX_READ_CALLS = 3
_COUNTS = (1, 2, 64, 1 << 20)


class _Refuses:
    """An element whose conversion fails with an exception of its own."""

    def __index__(self) -> int:
        raise ZeroDivisionError("an element that refuses")

    __float__ = __str__ = __bool__ = __len__ = __index__  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        raise LookupError(name)


class HostileStreams:
    """The streams and futures of one sandbox, chosen by ``rng``."""

    documented = (HostError, CallError, SandboxStateError)
    """Errors of calls whose streams are hostile, beside those of the guest."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._generators: list[Any] = []

    def imports(self, functions: Mapping[str, Any], world: Mapping[str, Any]) -> dict[str, Any]:
        """Return the stubs of a world's imports, with those that give or take streams made hostile."""
        made = dict(functions)
        for name, of in world.items():
            if isinstance(of, Function) and name in made and any(map(has_ends, _types(of))):
                made[name] = self._function(made[name], of)
        return made

    def _function(self, answer: Callable[..., Any], of: Function) -> Callable[..., Any]:
        def call(*values: Any) -> Any:
            for value, (_, kind) in zip(values, of.params, strict=False):
                self.consume(value, kind)
            value = answer()
            return value if of.result is None else self.value(value, of.result)

        return call

    # -- what the guest gets ---------------------------------------------------------------------

    def value(self, value: Any, of: WitType) -> Any:
        """Return a value of the type ``of`` for one of :func:`~aegis.wit.collected.collected_type`."""
        if not has_ends(of):
            return value
        match of:
            case Stream(element):
                return self._stream(value, element)
            case Future(element):
                return self._future(value, element)
            case List(element):
                return [self.value(item, element) for item in value]
            case Tuple(elements):
                return tuple(self.value(item, t) for item, t in zip(value, elements, strict=True))
            case Record():
                return replace(value, **{snake(n): self.value(getattr(value, snake(n)), t) for n, t in of.fields})
        return value  # lists stand for the streams in variants

    def _stream(self, values: Any, element: WitType | None) -> Any:
        kind = self._rng.choices(
            ("plain", "generator", "raises", "wrong", "refuses", "endless", "early", "written", "never", "nothing"),
            (4, 3, 2, 2, 1, 2, 2, 2, 0.2, 1),
        )[0]
        flat = element == "u8"
        items: list[Any] = [bytes(values)] if flat else [self._nested(one, element) for one in values]
        cut = self._rng.randrange(len(items) + 1)
        if kind == "plain":
            return values if flat else items
        if kind in ("written", "never"):
            writer: StreamWriter[Any] = StreamWriter(limit=1 + len(values))  # so that no write waits
            writer.write(items[0] if flat else items)
            if kind == "written":
                writer.close()
            return writer
        if kind == "nothing":
            return self._rng.choice((None, 7, object(), {}))
        return self._generator(kind, items, cut)

    def _nested(self, value: Any, element: WitType | None) -> Any:
        return value if element is None else self.value(value, element)

    def _generator(self, kind: str, items: list[Any], cut: int) -> Iterator[Any]:
        def generate() -> Iterator[Any]:
            if kind == "early":
                yield from items[:cut]
            elif kind == "endless":
                while True:
                    yield from items or [b"" if self._rng.random() < 0.5 else 0]
            elif kind in ("wrong", "refuses"):
                yield from items[:cut]
                yield _Refuses() if kind == "refuses" else self._rng.choice((None, -1, 1 << 70, "\ud800", [], 1.5))
                yield from items[cut:]
            else:
                yield from items[:cut]
                if kind == "raises":
                    raise self._rng.choice((ZeroDivisionError, StopAsyncIteration, CallError, Err))("a stream")
                yield from items[cut:]

        made = generate()
        self._generators.append(made)
        return made

    def _future(self, value: Any, element: WitType | None) -> Any:
        kind = self._rng.choices(("plain", "written", "unwritten", "wrong"), (4, 2, 0.2, 1))[0]
        if kind == "wrong":
            return self._rng.choice((None, -1, 1 << 70, "\ud800", [], 1.5, _Refuses()))
        if kind == "plain":
            return self._nested(value, element)
        writer: FutureWriter[Any] = FutureWriter()
        if kind == "written":
            writer.set(self._nested(value, element))
        return writer

    # -- what the guest gives --------------------------------------------------------------------

    def consume(self, value: Any, of: WitType | None) -> None:
        """Read the streams in a value of the guest in part, read them to their ends, close them, or let them be."""
        match of:
            case Stream():
                for _ in range(self._rng.randrange(_MAX_READ_CALLS + 1)):
                    if not value.read(self._rng.choice(_COUNTS)):
                        break
                if self._rng.random() < 0.5:
                    value.close()
            case Future():
                if self._rng.random() < 0.7:
                    value.result()
                elif self._rng.random() < 0.5:
                    value.close()
            case List(element):
                for item in value:
                    self.consume(item, element)
            case Tuple(elements):
                for item, t in zip(value, elements, strict=True):
                    self.consume(item, t)
            case Option(element) if value is not None:
                self.consume(value, element)
            case Result(ok, _) if not isinstance(value, Err):
                self.consume(getattr(value, "value", value), ok)

    def left_open(self) -> str | None:
        """Return how many generators were begun and not closed, after the sandbox was closed; ``None`` if none was."""
        left = [one for one in self._generators if inspect.getgeneratorstate(one) == inspect.GEN_SUSPENDED]
        return f"left open: {len(left)} generators of the host" if left else None


def _types(of: Function) -> list[WitType]:
    return [t for _, t in of.params] + ([] if of.result is None else [of.result])
