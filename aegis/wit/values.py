"""The few wrappers that WIT values need in Python, and the handle of a guest's resource."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, NamedTuple, TypeVar

from aegis.wit.declared import Err as Err
from aegis.wit.flags import BitFlags as BitFlags
from aegis.wit.types import Interface

__all__ = ["BitFlags", "Bound", "Err", "Ok", "ResourceHandle", "Some"]

T = TypeVar("T")
S = TypeVar("S", bound="ResourceHandle")


@dataclass(frozen=True, slots=True)
class Some(Generic[T]):
    """A present ``option`` whose payload could itself be ``None``: ``option<option<T>>``."""

    __wit_case__ = "some"

    value: T


@dataclass(frozen=True, slots=True)
class Ok(Generic[T]):
    """The good case of a ``result`` that is not the whole result of a function."""

    __wit_case__ = "ok"

    value: T


class Bound(NamedTuple):
    """An implementation of an interface, with the table of the bindings that it was written against."""

    interface: Interface
    implementation: object


class ResourceHandle:
    """An owned handle of a resource that the guest implements. Use it in ``with``, or call :meth:`drop`.

    It belongs to one sandbox. Giving it to a parameter of type ``own`` moves it into the guest; using it
    after that, or after its drop, raises :class:`~aegis.errors.CallError`. A method of the resource is an
    attribute in snake_case; one that is called ``drop`` in WIT is ``drop_``.
    """

    __slots__ = ("__weakref__", "_native", "_owner", "_type")

    _run: Any = None
    """The run that drops a handle; set in the subclass that is made for one sandbox."""

    def __init__(self, native: Any, kind: int, owner: Any) -> None:
        self._native, self._type, self._owner = native, kind, owner

    def drop(self) -> None:
        """Drop the resource in its guest, running its destructor; a second time does nothing."""
        if self._native is not None:
            self._run.drop_handle(self)

    def __enter__(self: S) -> S:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drop()
