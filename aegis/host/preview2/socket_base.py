"""The common part of TCP and UDP sockets: the options in the types of WASI 0.2."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from aegis.host.net.held_socket import HeldSocket
from aegis.host.preview2.io import Interest, Pollable
from aegis.host.preview2.socket_address import ADDRESSES, answering

if TYPE_CHECKING:
    from aegis.bindings.wasi_sockets_network import IpAddressFamily
    from aegis.host.preview2.socket_address import IpSocketAddress

__all__ = ["PollableSocket"]


class PollableSocket(HeldSocket):
    """A socket resource that a guest can poll, with the options that both kinds have."""

    def ready(self) -> bool:
        return True

    def interest(self) -> Interest:
        return Interest()

    def subscribe(self) -> Pollable:
        return Pollable(self, self.wasi)

    def address_family(self) -> IpAddressFamily:
        family: IpAddressFamily = ADDRESSES.family_names[self.family]
        return family

    def _address(self, name: tuple[Any, ...]) -> IpSocketAddress:
        address: IpSocketAddress = ADDRESSES.socket_address(name, self.family)
        return address

    @answering
    def hop_limit(self) -> int:
        return self.read_hop_limit()

    @answering
    def set_hop_limit(self, value: int) -> None:
        self.write_hop_limit(value)

    @answering
    def receive_buffer_size(self) -> int:
        return self.read_buffer_size(socket.SO_RCVBUF)

    @answering
    def set_receive_buffer_size(self, value: int) -> None:
        self.write_buffer_size(socket.SO_RCVBUF, value)

    @answering
    def send_buffer_size(self) -> int:
        return self.read_buffer_size(socket.SO_SNDBUF)

    @answering
    def set_send_buffer_size(self, value: int) -> None:
        self.write_buffer_size(socket.SO_SNDBUF, value)
