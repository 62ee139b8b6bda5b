# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:io/poll@0.2.12``."""

from __future__ import annotations

from typing import Protocol

from aegis.wit.types import Borrow, Function, Interface, List, Resource

__all__ = ["INTERFACE", "POLLABLE", "Host", "Pollable"]


class Pollable(Protocol):
    """The resource ``pollable``."""

    def ready(self) -> bool: ...

    def block(self) -> None: ...


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""

    def poll(self, in_: list[Pollable]) -> list[int]: ...


_NAME = "wasi:io/poll@0.2.12"

POLLABLE = Resource("pollable", python=Pollable, owner=_NAME)

INTERFACE = Interface(
    _NAME,
    functions={
        "[method]pollable.ready": Function((("self", Borrow(POLLABLE)),), "bool"),
        "[method]pollable.block": Function((("self", Borrow(POLLABLE)),)),
        "poll": Function((("in", List(Borrow(POLLABLE))),), List("u32")),
    },
    types={"pollable": POLLABLE},
)
