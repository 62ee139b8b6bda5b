"""In the parent: the memory of a guest that runs in a worker, read and written by messages."""

from __future__ import annotations

from collections.abc import Callable

from aegis.errors import AegisError, SandboxStateError
from aegis.isolation.protocol.channel import Broken
from aegis.support.lean import Any, Protocol

__all__ = ["RemoteMemory"]


class Conversation(Protocol):
    """The store of the guest: where its worker is asked."""

    @property
    def closed(self) -> bool: ...

    def request(self, *message: Any) -> Any:
        """Ask the worker and return its answer."""

    def worker_failed(self, reason: Exception) -> AegisError:
        """End a worker that gave an impossible answer; return the error of the call."""


class RemoteMemory:
    """A guest's memory in a worker; implements :class:`aegis.values.GuestMemory`."""

    def __init__(self, store: Conversation | None, *, charged: bool) -> None:
        self.store, self._charged = store, charged

    def _ask(self, wanted: Callable[[Any], bool], *message: Any) -> Any:
        if self.store is None or self.store.closed:
            raise SandboxStateError("the sandbox is closed; its memory is gone", state="closed")
        answer = self.store.request(*message)
        if not wanted(answer):
            raise self.store.worker_failed(Broken(f"something that is no answer to {message[0]}"))
        return answer

    def size(self) -> int:
        """Return the present size in bytes, 0 when the guest exports no memory."""
        return int(self._ask(_is_size, "size", self._charged))

    def read(self, offset: int, length: int) -> bytes:
        """Return a copy of ``length`` bytes at ``offset``."""
        return bytes(
            self._ask(lambda got: type(got) is bytes and len(got) == length, "read", self._charged, offset, length)
        )

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Copy ``data`` to ``offset``."""
        self._ask(lambda got: got is None, "write", self._charged, offset, data)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 48
