"""The part of an isolated sandbox's store that calls use; only for type checking.

:class:`aegis.isolation.parent.store.IsolatedStore` implements it and imports the modules that make calls, so they must
not import the store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from aegis.engine.call.door import Door
    from aegis.errors import AegisError
    from aegis.isolation.parent.handles import ParentHandles
    from aegis.isolation.parent.pool import Worker
    from aegis.isolation.parent.services import Services
    from aegis.isolation.parent.streams import Delivery

__all__ = ["CallingStore"]


class CallingStore(Protocol):
    """Sends requests to the worker of one sandbox and returns its answers."""

    worker: Worker
    plan: Any
    door: Door
    services: Services
    host: Any
    """The :class:`~aegis.isolation.parent.host_calls.HostFunctions`."""
    delivery: Delivery
    columns: Any
    """The :class:`~aegis.isolation.parent.columns.ColumnCalls` under way."""
    handles: ParentHandles | None
    owner: int
    """The thread that runs a host function of the sandbox, 0 for none."""
    depth: int
    """The number of host calls that run one inside another."""
    grace: float
    """Seconds that the worker has to end a late call by itself."""
    token: list[None]
    """One element while no call is running; a call takes it out."""
    calls_no_python: bool
    """Whether the sandbox has no host functions of the embedder."""
    timeout: float
    """Seconds that a call may take."""
    armed: float
    """When the current deadline was set (monotonic)."""
    spent: bool
    overlapping: Any
    """The :class:`~aegis.isolation.parent.overlapping.OverlappingWork` of an asynchronous component, or ``None``."""
    preparing: bool
    """Whether the worker is still preparing the sandbox or a loop."""
    asked: int
    """The number of the latest call by a fixed frame."""
    account: Any
    """The latest account, as the worker sent it."""

    @property
    def closed(self) -> bool:
        """Whether the sandbox is closed."""
        ...

    def busy(self) -> Exception: ...
    def entered_here(self) -> bool: ...
    def outside(self) -> bool: ...
    def in_time(self) -> None: ...
    def until(self) -> float: ...
    def stopped(self) -> bool: ...
    def sender(self, until: float) -> Callable[[list[Any]], None]: ...
    def end_with(self, error: AegisError) -> AegisError: ...
    def turn(self) -> Callable[[Callable[[], Any]], Any] | None: ...
    def call_message(self, name: str, values: list[Any]) -> list[Any]: ...
    def ask(self, message: list[Any], descriptors: Sequence[int] = (), *, mark: int = 0) -> Any: ...
    def converse(self, message: list[Any], descriptors: Sequence[int] = (), *, mark: int = 0) -> Any: ...
    def request(self, *message: Any) -> Any: ...
    def answer_to(self, budget: int, mark: int) -> tuple[str, Any]: ...
    def result_of(self, request: str, kind: str, value: Any) -> Any: ...
    def receive_with_grace(self, receive: Callable[..., Any], until: float) -> Any: ...
    def translate_failures(self) -> AbstractContextManager[None]: ...
    def count(self, account: Any) -> None: ...
    def validated(self, read: Callable[[], Any]) -> Any: ...
    def worker_failed(self, reason: Exception) -> AegisError: ...
