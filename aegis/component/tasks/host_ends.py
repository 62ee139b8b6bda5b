"""The host's ends of streams and futures."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from aegis.component.tasks.convert import HostElements
from aegis.component.tasks.copies import CopyEnd, CopyState
from aegis.component.traps import trap

__all__ = ["host_reader", "host_shared", "take_end"]


def take_end(instance: Any, handles: Any, index: int, shape: Hashable) -> Any:
    """Take the readable end of a stream or future out of an instance's table; return what both ends share."""
    end: CopyEnd = instance.get_as(index, CopyEnd)
    if not end.readable or end.shared.element != shape:
        raise trap(f"handle index {index} is the {end.kind} of another type")
    if end.state is not CopyState.IDLE:
        raise trap(f"the {end.kind} was given away during a copy, or after its end")
    if end.set is not None:
        raise trap(f"the {end.kind} was given away while it is in a waitable set")
    handles.leave(instance, index)
    return end.shared


def host_reader(shared: Any, typed: HostElements, cx: Any) -> Any:
    """Return the object by which the host reads a stream or future of the guest."""
    raise NotImplementedError


def host_shared(value: Any, of: Any, shape: Hashable, typed: HostElements, tasks: Any) -> Any:
    """Return what the guest's end of a stream or future shares with the host's ``value``."""
    raise NotImplementedError
