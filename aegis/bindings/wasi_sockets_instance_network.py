# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:sockets/instance-network@0.2.12``."""

from __future__ import annotations

from typing import Protocol

from aegis.bindings.wasi_sockets_network import NETWORK, Network
from aegis.wit.types import Function, Interface, Own

__all__ = ["INTERFACE", "NETWORK", "Host", "Network"]


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""

    def instance_network(self) -> Network: ...


_NAME = "wasi:sockets/instance-network@0.2.12"

INTERFACE = Interface(_NAME, functions={"instance-network": Function((), Own(NETWORK))}, types={"network": NETWORK})
