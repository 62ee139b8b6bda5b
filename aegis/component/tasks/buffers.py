"""Buffers, between which the elements of streams and futures are copied (CanonicalABI.md, "Buffer State")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aegis.component.tasks.convert import Elements, HostElements
from aegis.component.tasks.copies import MAX_BUFFER_ELEMENTS, CopyBuffer
from aegis.component.traps import trap, unaligned

__all__ = ["GuestReadBuffer", "GuestWriteBuffer"]


class _GuestBuffer(CopyBuffer):
    """A range of elements in a guest's memory. ``outside`` returns the context for conversions to and from the host."""

    __slots__ = ("at", "cx", "encoding", "of", "outside")

    def __init__(self, cx: Any, outside: Callable[[], Any], encoding: str, of: Elements, at: int, length: int) -> None:
        super().__init__(cx.instance, length)
        if length > MAX_BUFFER_ELEMENTS:
            raise trap(f"a buffer is too long ({length:,}/{MAX_BUFFER_ELEMENTS:,} elements)")
        if length and of.size:
            if at & (of.align - 1):
                raise unaligned("a buffer")
            cx.memory.need(at + length * of.size)
        self.cx, self.outside, self.encoding, self.of, self.at = cx, outside, encoding, of, at

    def _advance(self, count: int) -> int:
        """Skip ``count`` elements; return the address of the first."""
        at = self.at
        self.at += count * self.of.size
        self.progress += count
        return at


class GuestReadBuffer(_GuestBuffer):
    """The buffer of a guest's write: its elements are read."""

    __slots__ = ()

    def move_to(self, target: Any, count: int) -> None:
        """Copy ``count`` elements to the buffer of a read."""
        target.accept(self, count)

    def take(self, count: int, typed: HostElements) -> Any:
        """Return the next ``count`` elements as values of the host."""
        cx = self.outside()
        cx.door.value_left = cx.door.value_limit
        return typed.converter(self.encoding).load(cx, self._advance(count), count)


class GuestWriteBuffer(_GuestBuffer):
    """The buffer of a guest's read: its elements are written."""

    __slots__ = ()

    def accept(self, source: Any, count: int) -> None:
        """Copy ``count`` elements from the buffer of a write, the host's or a guest's."""
        if not isinstance(source, GuestReadBuffer):
            typed: HostElements = source.typed
            typed.converter(self.encoding).store(self.outside(), self._advance(count), source.take(count, typed))
            return
        of = self.of
        if of.plain:
            size = count * of.size
            start, at = source._advance(count), self._advance(count)
            if size:
                self.cx.door.charge(size)
                self.cx.memory.need(at + size)[at : at + size] = source.cx.memory.need(start + size)[
                    start : start + size
                ]
            return
        source.cx.door.value_left = source.cx.door.value_limit
        values = source.of.load(source.cx, source._advance(count), count)
        of.store(self.cx, self._advance(count), values)
