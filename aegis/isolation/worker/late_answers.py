"""Answers of the parent that come later: of asynchronous host functions, and of streams without elements yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aegis.isolation.protocol.errors import from_plain
from aegis.values import Interest

__all__ = ["AskLater", "LateAnswer", "LateAnswers"]


class LateAnswer:
    """The answer to one request; a :class:`~aegis.component.tasks.host_calls.Later`.

    ``unpack`` converts a received value. ``lost`` takes one that arrived when the guest had given the request up, and
    ``failed`` is called if an error did.
    """

    def __init__(self, request: int, forget: Callable[[list[Any]], None]) -> None:
        self.request, self._forget = request, forget
        self.unpack: Callable[[Any], Any] = _same
        self.lost: Callable[[Any], None] = _same
        self.failed: Callable[[], None] = _nothing
        self.given: tuple[bool | None, Any] | None = None
        self.forgotten = False
        self.settled: Callable[[], None] = _nothing
        """Called when the answer arrives or the request is given up."""

    def ready(self) -> bool:
        """Return whether the answer has arrived."""
        return self.given is not None

    def interest(self) -> Interest:
        """Return no events: the scheduler waits for the parent's messages beside all operations."""
        return Interest()

    def result(self) -> Any:
        """Return the answer, or raise its error."""
        assert self.given is not None
        failed, value = self.given
        if failed:
            raise from_plain(value)
        return self.unpack(value)

    def cancel(self) -> None:
        """Give the request up, and an error that has arrived: it ends nothing then."""
        if not self.forgotten and (self.given is None or self.given[0]):
            self.forgotten = True
            self.settled()
            self._forget(["forget", self.request])


AskLater = Callable[[int, list[Any]], Any]
"""Calls a host function in the parent; returns its result, or a :class:`LateAnswer`."""


class LateAnswers:
    """The requests of one sandbox whose answers have not arrived. ``send`` sends a notice."""

    def __init__(self, send: Callable[[list[Any]], None]) -> None:
        self._send = send
        self._waiting: dict[int, LateAnswer] = {}

    def begin(self, request: int) -> LateAnswer:
        """Return the answer to a request that is pending."""
        made = self._waiting[request] = LateAnswer(request, self._send)
        return made

    def find(self, request: int | None) -> LateAnswer | None:
        """Return the answer to a request, unless it has arrived."""
        return None if request is None else self._waiting.get(request)

    def give(self, request: int, failed: bool | None, value: Any) -> Callable[[], None]:
        """Store an answer; return the function to call when the guest does not run."""
        answer = self._waiting.pop(request)
        answer.given = failed, value
        if not answer.forgotten:
            answer.settled()
        elif failed is not None:
            return answer.failed if failed else lambda: answer.lost(value)
        return _nothing


def _same(value: Any) -> Any:
    return value


def _nothing() -> None:
    pass
