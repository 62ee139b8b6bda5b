"""The resource ``udp-socket`` of ``wasi:sockets/types``, on the sockets of :mod:`aegis.host.net.udp_socket`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from aegis.host.net.socket_errors import WrongStateError
from aegis.host.net.udp_socket import HeldUdpSocket
from aegis.host.preview3.socket_types import ADDRESSES, SocketResource, answering
from aegis.values import Interest

if TYPE_CHECKING:
    from aegis.bindings.wasi_sockets_types_0_3 import IpSocketAddress
    from aegis.host.net.endpoints import Endpoint
    from aegis.host.net.sockets import Address

__all__ = ["AsyncUdpSocket"]

_DATAGRAMS_PER_CHECK = 16
"""Datagrams of peers that may not send that one check drops: a flood of them cannot keep it busy."""


class AsyncUdpSocket(SocketResource, HeldUdpSocket):
    """The resource ``udp-socket``."""

    @answering
    def bind(self, local_address: IpSocketAddress) -> None:
        self.bind_to(ADDRESSES.endpoint_of(local_address, self.family))

    @answering
    def connect(self, remote_address: IpSocketAddress) -> None:
        """Set the only peer, and bind an unbound socket to a free port."""
        remote = ADDRESSES.endpoint_of(remote_address, self.family)
        self.set_remote(remote)
        self.bind_to_any()

    @answering
    def disconnect(self) -> None:
        if self.remote is None:
            raise WrongStateError
        self.set_remote(None)

    @answering
    def send(self, data: bytes, remote_address: IpSocketAddress | None) -> _DatagramSending:
        """Send a datagram, as soon as there is room for it; bind an unbound socket to a free port."""
        given = None if remote_address is None else ADDRESSES.endpoint_of(remote_address, self.family)
        target = self.target(given, self.remote)
        self.judge(data, target)
        self.bind_to_any()
        return _DatagramSending(self, data, target)

    @answering
    def receive(self) -> _Receiving:
        if self.state == "unbound":
            raise WrongStateError
        return _Receiving(self)

    @answering
    def get_local_address(self) -> IpSocketAddress:
        if self.state == "unbound":
            raise WrongStateError
        return self._address(self.local_name())

    @answering
    def get_remote_address(self) -> IpSocketAddress:
        if self.remote is None:
            raise WrongStateError
        return self._address(self.remote)

    @answering
    def get_unicast_hop_limit(self) -> int:
        return self.read_hop_limit()

    @answering
    def set_unicast_hop_limit(self, value: int) -> None:
        self.write_hop_limit(value)


class _DatagramSending:
    """A datagram that waits for room in the socket's buffer, and is judged again after a wait.

    Meanwhile a look-up may have found that the address belongs to a denied name.
    """

    def __init__(self, owner: AsyncUdpSocket, data: bytes, target: Endpoint) -> None:
        self._owner, self._data, self._target = owner, data, target
        self._error: OSError | None = None
        self._waited = False

    def ready(self) -> bool:
        """Send the datagram if there is room; return whether it was sent, or failed."""
        read, write = self._owner.network.room(self._owner.shared.socket)
        if not any(self._owner.wasi.scope.wait(0, read=read, write=write)):
            self._waited = True
            return False
        try:
            if self._waited:
                self._owner.judge(self._data, self._target)
            self._owner.send_to(self._data, self._target)
        except BlockingIOError:
            self._waited = True
            return False
        except OSError as error:
            self._error = error
        return True

    def interest(self) -> Interest:
        return Interest(*self._owner.network.room(self._owner.shared.socket))

    @answering
    def result(self) -> None:
        if self._error is not None:
            raise self._error

    def cancel(self) -> None:
        """Release nothing: the datagram was not sent, and the guest still has the socket."""


class _Receiving:
    """A wait for a datagram that may arrive."""

    def __init__(self, owner: AsyncUdpSocket) -> None:
        self._owner = owner
        self._came: tuple[bytes, Address] | None = None
        self._error: OSError | None = None

    def ready(self) -> bool:
        """Receive a datagram if there is one; return whether one came, or an error.

        Datagrams of other peers are dropped, a bounded number of them in one call.
        """
        if not self._owner.wasi.scope.wait(0, read=(self._owner.shared.number(),))[0]:
            return False
        for _ in range(_DATAGRAMS_PER_CHECK):
            with contextlib.suppress(ConnectionError):  # an answer to an earlier datagram, not a fault of this wait
                try:
                    self._came = self._owner.next_datagram(self._owner.remote)
                except BlockingIOError:
                    return False
                except ConnectionError:
                    raise
                except OSError as error:
                    self._error = error
                if self._came is not None or self._error is not None:
                    return True
        return False

    def interest(self) -> Interest:
        return Interest(read=(self._owner.shared.number(),))

    @answering
    def result(self) -> tuple[bytes, IpSocketAddress]:
        if self._error is not None:
            raise self._error
        assert self._came is not None
        data, sender = self._came
        return data, ADDRESSES.socket_address(sender, self._owner.family)

    def cancel(self) -> None:
        """Release nothing: no datagram was received, and the guest still has the socket."""
