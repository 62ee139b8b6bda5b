"""Resources that cross the boundary: the host's objects that a guest holds, and the guest's that we hold.

A guest names a host object by a number, its *rep*; the table from reps to objects is one sandbox's own. The
engine sees to it that a guest cannot invent a handle, use one of another type, or use one after its drop;
what is left to us is to consume each handle that we are given exactly once (F2), and to keep count.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import suppress
from ctypes import c_void_p
from typing import Any, NamedTuple

from aegis.component.release import drop_object, release
from aegis.component.fit import Unfit
from aegis.engine.native import lib, pointer, take_error
from aegis.errors import AegisInternalError, CallError, QuotaExceeded
from aegis.names import printable
from aegis.wit.types import WitType
from aegis.wit.values import ResourceHandle

__all__ = ["FIRST_TYPE", "Handles"]

FIRST_TYPE = 1
"""Number of the first host resource type; the engine tells types apart by it."""

_host_new = lib.wasmtime_component_resource_host_new
_host_rep = lib.wasmtime_component_resource_host_rep
_host_delete = lib.wasmtime_component_resource_host_delete
_host_to_any = lib.wasmtime_component_resource_host_to_any
_any_to_host = lib.wasmtime_component_resource_any_to_host
_any_clone = lib.wasmtime_component_resource_any_clone
_any_delete = lib.wasmtime_component_resource_any_delete
_any_drop = lib.wasmtime_component_resource_any_drop


class _Loan(NamedTuple):
    """A handle made for one call: the engine's, the object's rep, and the guest's own handle if it is one."""

    native: int
    rep: int
    owned: bool
    handle: ResourceHandle | None


class Handles:
    """The resources of one sandbox. ``imported`` resource types are the host's, by key the first of them."""

    def __init__(
        self, context: Any, imported: int, limit: int | None, classes: Callable[[int], Callable[..., Any]]
    ) -> None:
        self.context = context
        self.imported = imported
        self.limit = limit
        self.objects: dict[int, Any] = {}
        self.held = 0
        self.loans: list[_Loan] = []
        self.taken: list[Any] = []
        """Objects that the guest gave up in the values that are being lifted now."""
        self._classes = classes
        self._next = 1
        self._out = c_void_p()
        self._out_pointer = ctypes.byref(self._out)

    # -- the guest's view of host objects -----------------------------------------------------------

    def add(self, value: Any) -> int:
        """Give an object a rep; raise ``QuotaExceeded`` when the guest holds all the handles that it may."""
        self.count()
        rep = self._next
        self._next = rep + 1 if rep < 0xFFFF_FFFE else 1
        while rep in self.objects:
            rep += 1
        self.objects[rep] = value
        return rep

    def count(self) -> None:
        """Refuse one more handle when all that may be held are."""
        used = len(self.objects) + self.held
        if self.limit is not None and used >= self.limit:
            raise QuotaExceeded(
                f"the guest holds {used:,} handles, all it may", limit="handles", used=used, allowed=self.limit
            )

    def many(self, number: int) -> None:
        """Refuse a list of more handles than may be held."""
        if self.limit is not None and number > self.limit:
            raise QuotaExceeded(
                f"the guest passed {number:,} handles at once, and may hold {self.limit:,}",
                limit="handles", used=number, allowed=self.limit,
            )  # fmt: skip

    def dropped(self, rep: int) -> None:
        """The guest dropped an object of ours: tell it, if it wants to know."""
        drop_object(self.objects.pop(rep, None))

    def lift_borrow(self, native: int, key: int) -> Any:
        """Return the object of a borrowed handle, consuming the handle."""
        return self.objects[self._rep(native)]

    def lift_own(self, native: int, key: int) -> Any:
        """Return the object of an owned handle, which the guest gave up; a guest's own as a new handle."""
        if key >= self.imported:
            self.count()
            kept = _any_clone(native)
            self.held += 1
            return self._classes(key)(kept, key, self)
        value = self.objects.pop(self._rep(native))
        self.taken.append(value)
        return value

    def release_taken(self) -> None:
        """Drop what the guest gave up and nobody received, for the rest of the values could not be lifted."""
        taken, self.taken = self.taken, []
        for value in taken:
            with suppress(Exception):
                drop_object(value)

    def withdraw(self, mark: int, of: WitType, value: Any) -> None:
        """Release a host function's result that did not reach the guest: the handles since ``mark``, the objects."""
        self.take_back(mark)
        release(of, value, self.imported)

    def _rep(self, native: int) -> int:
        error = _any_to_host(self.context, native, self._out_pointer)
        if error is not None:
            raise AegisInternalError(f"a handle is not what its type says: {printable(take_error(error))}")
        host = self._out.value
        rep: int = _host_rep(host)
        _host_delete(host)
        return rep

    # -- handing out -------------------------------------------------------------------------------

    def lower_own(self, value: Any, key: int) -> int:
        """Make an owned handle: of a host object, or of a guest's resource that moves back to it."""
        if key >= self.imported:
            return self._lend(self._checked(value, key, owned=True), owned=True)
        return self._host(value, key, owned=True)

    def lower_borrow(self, value: Any, key: int) -> int:
        """Make a handle that lives for the call."""
        if key >= self.imported:
            return self._lend(self._checked(value, key, owned=False), owned=False)
        return self._host(value, key, owned=False)

    def _lend(self, handle: ResourceHandle, *, owned: bool) -> int:
        native: int = handle._native
        self.loans.append(_Loan(native, 0, owned, handle))
        return native

    def _checked(self, value: Any, key: int, *, owned: bool) -> ResourceHandle:
        if not isinstance(value, ResourceHandle):
            raise CallError(f"expected a handle of the guest's resource, not {type(value).__name__}")
        if value._native is None:
            raise CallError("the handle was dropped, or was moved into the guest by an earlier call")
        if value._owner is not self:
            raise CallError("the handle belongs to another sandbox, or to the guest before its reset")
        if value._type != key:
            raise CallError("the handle is of another resource type")
        if any(loan.handle is value and (owned or loan.owned) for loan in self.loans):
            raise CallError("the handle is given away in a call that uses it twice")
        return value

    def _host(self, value: Any, key: int, *, owned: bool) -> int:
        if hasattr(type(value), "__await__"):
            raise Unfit  # it is to be awaited first
        if isinstance(value, ResourceHandle) or value is None:
            raise CallError(f"expected an object of the host for the resource, not {type(value).__name__}")
        rep = self.add(value)
        host = _host_new(owned, rep, FIRST_TYPE + key)
        error = _host_to_any(self.context, host, self._out_pointer)
        _host_delete(host)
        if error is not None:
            del self.objects[rep]
            raise AegisInternalError(f"the engine made no handle: {printable(take_error(error))}")
        native = self._out.value
        assert native is not None
        self.loans.append(_Loan(native, rep, owned, None))
        return native

    def settle(self, mark: int) -> None:
        """The call took what was lent since ``mark``: forget what it owns, end what it borrowed."""
        while len(self.loans) > mark:
            loan = self.loans.pop()
            if loan.handle is None:
                if not loan.owned:
                    self._end(loan)
                _any_delete(loan.native)
            elif loan.owned:
                loan.handle._native = None
                self.held -= 1
                _any_delete(loan.native)

    def take_back(self, mark: int) -> None:
        """The call never began: what was lent since ``mark`` is the lender's again."""
        while len(self.loans) > mark:
            loan = self.loans.pop()
            if loan.handle is None:
                self._end(loan)
                _any_delete(loan.native)

    def _end(self, loan: _Loan) -> None:
        self.objects.pop(loan.rep, None)
        error = _any_drop(self.context, pointer(loan.native))
        if error is not None:
            take_error(error)

    def forget(self, handle: ResourceHandle) -> None:
        """A handle of the guest's resource was dropped."""
        native, handle._native = handle._native, None
        self.held -= 1
        _any_delete(native)

    def close(self) -> None:
        """Drop what is left, as the sandbox ends. What objects raise is lost, but for what nobody may catch."""
        grave: BaseException | None = None
        self._next = 1
        while self.objects:
            rep = next(reversed(self.objects))
            try:
                self.dropped(rep)
            except Exception:
                continue  # there is no call any more that could fail by it
            except BaseException as error:
                grave = grave or error
        if grave is not None:
            raise grave
