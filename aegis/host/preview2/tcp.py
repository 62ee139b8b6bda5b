"""``wasi:sockets/tcp``: clients and servers; the policy judges each address before any call of the system.

The states and the results are those of the WIT's operational semantics. No function blocks.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from typing import TYPE_CHECKING, Any

from aegis.bindings.wasi_sockets_network import ErrorCode, IpAddressFamily
from aegis.bindings.wasi_sockets_tcp import ShutdownType
from aegis.host.preview2.io import CHUNK_BYTES, Ended, Failed, InputStream, Interest, OutputStream
from aegis.host.preview2.socket_address import answering, endpoint_of, failed, refuse, wit_address
from aegis.host.preview2.socket_base import SharedSocket, SocketBase, new_socket
from aegis.support.descriptors import socket_above_standard

if TYPE_CHECKING:
    from aegis.host.preview2.socket_address import IpSocketAddress
    from aegis.host.wasi import Wasi

__all__ = ["TcpSocket"]

_SECOND = 1_000_000_000
_MAX_DENIED_CONNECTIONS = 16
_UNSPECIFIED = ("0.0.0.0", "::")


class TcpSocket(SocketBase):
    """The resource ``tcp-socket``; ``state`` is one of the states in the WIT."""

    def __init__(self, wasi: Wasi, family: IpAddressFamily, shared: SharedSocket | None = None, peer: Any = ()) -> None:
        made = shared or new_socket(wasi.grants.network, family, socket.SOCK_STREAM)
        super().__init__(wasi, family, made)
        self.state = "unbound" if shared is None else "connected"
        self._peer: tuple[Any, ...] = peer
        """The address of the peer. The system forgets it when the connection ends, and guests ask for it afterwards."""
        self._backlog = 128
        self._input: _TcpInput | None = None
        self._output: _TcpOutput | None = None

    def __drop__(self) -> None:
        self.state = "closed"  # a pollable that outlives its socket is ready
        super().__drop__()

    def _must(self, code: ErrorCode, *states: str) -> None:
        if self.state not in states:
            raise refuse(code)

    # -- binding and listening -----------------------------------------------------------------------

    @answering
    def start_bind(self, network: object, local_address: IpSocketAddress) -> None:
        endpoint = endpoint_of(local_address, self.family)
        host, port = endpoint[:2]
        self._must(ErrorCode.INVALID_STATE, "unbound")
        if not endpoint.is_unicast():
            raise refuse(ErrorCode.INVALID_ARGUMENT)
        # A client may bind to a free port that the system chooses; a port that peers can know needs a rule.
        if (port or host not in _UNSPECIFIED) and not self.network.may_listen("tcp", host, port):
            raise refuse(ErrorCode.ACCESS_DENIED)
        with contextlib.suppress(OSError):
            self.shared.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.network.bind(self.shared.socket, endpoint.system())
        self.state = "bind-started"

    @answering
    def finish_bind(self) -> None:
        self._must(ErrorCode.NOT_IN_PROGRESS, "bind-started")
        self.state = "bound"

    @answering
    def start_listen(self) -> None:
        self._must(ErrorCode.INVALID_STATE, "bound")
        if not self.network.may_listen("tcp", *self._name()):
            raise refuse(ErrorCode.ACCESS_DENIED)
        self.network.listen(self.shared.socket, self._backlog)
        self.state = "listen-started"

    @answering
    def finish_listen(self) -> None:
        self._must(ErrorCode.NOT_IN_PROGRESS, "listen-started")
        self.state = "listening"

    def is_listening(self) -> bool:
        return self.state == "listening"

    @answering
    def set_listen_backlog_size(self, value: int) -> None:
        if not value:
            raise refuse(ErrorCode.INVALID_ARGUMENT)
        self._must(ErrorCode.INVALID_STATE, "unbound", "bind-started", "bound", "listen-started", "listening")
        self._backlog = min(value, 4096)
        if self.state == "listening":
            self.network.listen(self.shared.socket, self._backlog)

    @answering
    def accept(self) -> tuple[TcpSocket, InputStream, OutputStream]:
        self._must(ErrorCode.INVALID_STATE, "listening")
        if self.network.full():
            raise refuse(ErrorCode.NEW_SOCKET_LIMIT)
        accepted, peer = self._next_peer()
        accepted = socket_above_standard(accepted)
        self.network.adopt(accepted)
        self.network.connecting()
        client = TcpSocket(self.wasi, self.family, SharedSocket(self.network, accepted), peer)
        return client, *client._streams()

    def _next_peer(self) -> tuple[socket.socket, Any]:
        """Accept a connection and return it with its peer's address.

        Connections of denied peers are closed, a bounded number of them in one call.
        """
        for _ in range(_MAX_DENIED_CONNECTIONS):
            accepted, peer = self.shared.socket.accept()
            if self.network.may_accept("tcp", str(peer[0]).partition("%")[0], int(peer[1])):
                return accepted, peer
            accepted.close()
        raise refuse(ErrorCode.WOULD_BLOCK)

    # -- connecting ----------------------------------------------------------------------------------

    @answering
    def start_connect(self, network: object, remote_address: IpSocketAddress) -> None:
        endpoint = endpoint_of(remote_address, self.family)
        host, port = endpoint[:2]
        self._must(ErrorCode.INVALID_STATE, "unbound", "bound")
        if not port or host in _UNSPECIFIED or not endpoint.is_unicast():
            raise refuse(ErrorCode.INVALID_ARGUMENT)
        if not self.network.may_connect("tcp", host, port):
            raise refuse(ErrorCode.ACCESS_DENIED)
        self.network.connecting()
        number = self.network.connect(self.shared.socket, endpoint.system())
        if number not in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
            self.state = "closed"
            raise OSError(number, os.strerror(number))
        self.state, self._peer = "connecting", endpoint.system()

    @answering
    def finish_connect(self) -> tuple[InputStream, OutputStream]:
        self._must(ErrorCode.NOT_IN_PROGRESS, "connecting")
        if not self.ready():
            raise refuse(ErrorCode.WOULD_BLOCK)
        number = self.shared.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self.state = "closed"
            raise OSError(number, os.strerror(number))
        self.state = "connected"
        return self._streams()

    def _streams(self) -> tuple[InputStream, OutputStream]:
        with contextlib.suppress(OSError):
            self.shared.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._output = _TcpOutput(self.wasi, self.shared)
        self._input = _TcpInput(self.wasi, self.shared, self._output)
        return self._input, self._output

    @answering
    def shutdown(self, shutdown_type: ShutdownType) -> None:
        self._must(ErrorCode.INVALID_STATE, "connected")
        assert self._input is not None
        assert self._output is not None
        if shutdown_type is not ShutdownType.SEND:
            self._input.ended = True
            with contextlib.suppress(OSError):  # ENOTCONN: the connection has ended, and nothing is left to shut down
                self.shared.socket.shutdown(socket.SHUT_RD)
        if shutdown_type is not ShutdownType.RECEIVE:
            self._output.finish()

    @answering
    def local_address(self) -> IpSocketAddress:
        self._must(ErrorCode.INVALID_STATE, "bound", "listen-started", "listening", "connected")
        return self._local()

    @answering
    def remote_address(self) -> IpSocketAddress:
        self._must(ErrorCode.INVALID_STATE, "connected")
        return wit_address(self._peer, self.family)

    # -- waiting -------------------------------------------------------------------------------------

    def ready(self) -> bool:
        interest = self.interest()
        if interest == Interest():
            return True
        return any(self.wasi.scope.wait(0, read=interest.read, write=interest.write))

    def interest(self) -> Interest:
        if self.state == "connecting":
            return Interest(write=(self.shared.number(),))
        return Interest(read=(self.shared.number(),)) if self.state == "listening" else Interest()

    # -- options -------------------------------------------------------------------------------------

    @answering
    def keep_alive_enabled(self) -> bool:
        return bool(self.shared.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    @answering
    def set_keep_alive_enabled(self, value: bool) -> None:
        self.shared.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, value)

    @answering
    def keep_alive_idle_time(self) -> int:
        return self._keep_alive("IDLE") * _SECOND

    @answering
    def set_keep_alive_idle_time(self, value: int) -> None:
        self._set_keep_alive("IDLE", -(-value // _SECOND))

    @answering
    def keep_alive_interval(self) -> int:
        return self._keep_alive("INTVL") * _SECOND

    @answering
    def set_keep_alive_interval(self, value: int) -> None:
        self._set_keep_alive("INTVL", -(-value // _SECOND))

    @answering
    def keep_alive_count(self) -> int:
        return self._keep_alive("CNT")

    @answering
    def set_keep_alive_count(self, value: int) -> None:
        self._set_keep_alive("CNT", value)

    def _keep_alive(self, name: str) -> int:
        return self.shared.socket.getsockopt(socket.IPPROTO_TCP, self._option(name))

    def _set_keep_alive(self, name: str, value: int) -> None:
        if not value:
            raise refuse(ErrorCode.INVALID_ARGUMENT)
        self.shared.socket.setsockopt(
            socket.IPPROTO_TCP, self._option(name), min(value, 127 if name == "CNT" else 32767)
        )

    @staticmethod
    def _option(name: str) -> int:
        found = getattr(socket, f"TCP_KEEP{name}", None)
        if found is None:
            raise refuse(ErrorCode.NOT_SUPPORTED)
        return int(found)


class _TcpInput(InputStream):
    """The bytes from the peer. Reading also continues the other direction, which may still have bytes to send."""

    def __init__(self, wasi: Wasi, shared: SharedSocket, output: _TcpOutput) -> None:
        super().__init__(wasi)
        self._shared, self._output = shared.use(), output

    def take(self, count: int) -> bytes | None:
        self._output.go_on()
        try:
            data = self._shared.socket.recv(count)
        except BlockingIOError:
            return None
        except OSError as error:
            raise failed(error) from None
        if not data:
            raise Ended
        self.wasi.grants.network.charge(len(data))
        return data

    def ready(self) -> bool:
        self._output.go_on()
        return self.ended or bool(self.wasi.scope.wait(0, read=(self._shared.number(),))[0])

    def interest(self) -> Interest:
        number = self._shared.number()
        return Interest(read=(number,), write=(number,) if self._output.finishing else ())

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._shared.socket.shutdown(socket.SHUT_RD)
        self._shared.release()


class _TcpOutput(OutputStream):
    """The bytes to the peer. Those that the system does not take at once are buffered, one chunk at most."""

    def __init__(self, wasi: Wasi, shared: SharedSocket) -> None:
        super().__init__(wasi)
        self._shared = shared.use()
        self._pending = b""
        self.finishing = False
        """Whether to shut the direction down once the buffered bytes were sent."""

    def room(self) -> int:
        if not self.flushed():
            return 0
        return CHUNK_BYTES if self.wasi.scope.wait(0, write=(self._shared.number(),))[1] else 0

    def give(self, data: bytes) -> None:
        self.wasi.grants.network.charge(len(data))
        self._pending += data
        self._send()

    def _send(self) -> None:
        try:
            while self._pending:
                self._pending = self._pending[self._shared.socket.send(self._pending) :]
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError) as error:
            if isinstance(error, BrokenPipeError):
                raise Ended from None
            raise failed(error) from None
        except OSError as error:
            raise failed(error) from None

    def flush_now(self) -> None:
        self._send()

    def flushed(self) -> bool:
        if self._pending:
            self._send()
        return not self._pending

    def interest(self) -> Interest:
        return Interest(write=(self._shared.number(),))

    def finish(self) -> None:
        """Accept no more; buffered bytes are sent while the guest uses the other direction."""
        self.ended = self.finishing = True
        self.go_on()

    def go_on(self) -> None:
        """Send the buffered bytes of a finished stream, then shut the direction down."""
        if not self.finishing:
            return
        try:
            if not self.flushed():
                return
            self._shared.socket.shutdown(socket.SHUT_WR)
        except (OSError, Ended, Failed):
            self._pending = b""  # the peer is gone
        self.finishing = False

    def close(self) -> None:
        self.finish()
        self._shared.release()
