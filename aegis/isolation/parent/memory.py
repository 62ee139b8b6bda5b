"""The memory of a guest in a worker, as the parent accesses it: by messages."""

from __future__ import annotations

from collections.abc import Callable

from aegis.errors import AegisError, SandboxStateError
from aegis.isolation.protocol.channel import ProtocolError
from aegis.support.lean import Any, Protocol

__all__ = ["RemoteMemory"]


class WorkerRequests(Protocol):
    """The guest's store, which sends requests to its worker."""

    @property
    def closed(self) -> bool: ...

    def request(self, *message: Any) -> Any:
        """Send a request to the worker and return its answer."""

    def worker_failed(self, reason: Exception) -> AegisError:
        """Kill a worker that gave an impossible answer; return the error of the call."""


class RemoteMemory:
    """The memory of a guest in a worker; implements :class:`aegis.values.GuestMemory`."""

    def __init__(self, store: WorkerRequests | None, *, charged: bool) -> None:
        self.store, self._charged = store, charged

    def _ask(self, is_valid: Callable[[Any], bool], *message: Any) -> Any:
        if self.store is None or self.store.closed:
            raise SandboxStateError("the sandbox is closed; its memory is gone", state="closed")
        answer = self.store.request(*message)
        if not is_valid(answer):
            raise self.store.worker_failed(ProtocolError(f"invalid answer to {message[0]}"))
        return answer

    def size(self) -> int:
        """Return the current size in bytes, 0 if the guest exports no memory."""
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
