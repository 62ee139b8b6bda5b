"""Python wrappers for WIT values, and handles of guest resources."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, Generic, NamedTuple, TypeAlias, TypeVar

from aegis.wit.err import Err as Err
from aegis.wit.flags import BitFlags as BitFlags
from aegis.wit.types import Interface

__all__ = ["AnyFuture", "AnyStream", "BitFlags", "Bound", "Err", "MaybeAwaitable", "Ok", "ResourceHandle", "Some"]


def __dir__() -> list[str]:
    return sorted(__all__)


T = TypeVar("T")
MaybeAwaitable: TypeAlias = T | Awaitable[T]
"""The result of a host function in generated protocols, so that an implementation may be ``def`` or ``async def``."""
AnyStream: TypeAlias = Any
"""The readable end of a ``stream`` inside a record, which either side may create: see :mod:`aegis.wit.streams`."""
AnyFuture: TypeAlias = Any
"""The readable end of a ``future`` inside a record, which either side may create: see :mod:`aegis.wit.streams`."""
S = TypeVar("S", bound="ResourceHandle")


@dataclass(frozen=True, slots=True)
class Some(Generic[T]):
    """The present case of a nested ``option``, such as ``option<option<T>>``, whose payload could itself be ``None``.

    >>> Some(None) == None
    False
    """

    __wit_case__ = "some"
    case: ClassVar[str] = "some"
    """The name of the case, as every value of a variant has it."""

    value: T


@dataclass(frozen=True, slots=True)
class Ok(Generic[T]):
    """The success case of a WIT ``result`` inside another value.

    A function whose own result is a ``result`` returns the payload and raises :class:`Err` instead.
    """

    __wit_case__ = "ok"
    case: ClassVar[str] = "ok"
    """The name of the case, as every value of a variant has it."""

    value: T


class Bound(NamedTuple):
    """An implementation of an interface together with the type table of its generated bindings."""

    interface: Interface
    implementation: object


class ResourceHandle:
    """An owned handle of a resource that the guest implements. Use it in a ``with`` statement, or call :meth:`drop`.

    A handle belongs to one sandbox. Passing it to a parameter of type ``own`` moves it into the guest. Using it after
    that, or after :meth:`drop`, raises :class:`~aegis.errors.CallError`. The resource's methods are attributes in
    snake_case; a method called ``drop`` in WIT is ``drop_``.
    """

    __slots__ = ("__weakref__", "_native", "_owner", "_type")

    _run: Any = None
    """The run that drops a handle; set in the subclass that is made for one sandbox."""

    def __init__(self, native: Any, kind: int, owner: Any) -> None:
        self._native, self._type, self._owner = native, kind, owner

    def drop(self) -> None:
        """Drop the resource and run its destructor in the guest; further calls do nothing."""
        if self._native is not None:
            self._run.drop_handle(self)

    def __enter__(self: S) -> S:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drop()
