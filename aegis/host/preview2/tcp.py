"""``wasi:sockets/tcp``: clients and servers, on the sockets of :mod:`aegis.host.net.tcp_socket`. No function blocks."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

from aegis.bindings.wasi_sockets_network import ErrorCode
from aegis.bindings.wasi_sockets_tcp import ShutdownType
from aegis.host.net.tcp_socket import HeldTcpSocket, TcpSender
from aegis.host.preview2.io import CHUNK_BYTES, Ended, InputStream, Interest, OutputStream
from aegis.host.preview2.socket_address import ADDRESSES, answering, failed, refuse
from aegis.host.preview2.socket_base import PollableSocket

if TYPE_CHECKING:
    from aegis.host.net.held_socket import SharedSocket
    from aegis.host.preview2.socket_address import IpSocketAddress
    from aegis.host.wasi import Wasi

__all__ = ["TcpSocket"]


class TcpSocket(PollableSocket, HeldTcpSocket):
    """The resource ``tcp-socket``; WASI 0.2 has the states ``bind-started`` and ``listen-started`` besides."""

    _input: _TcpInput | None = None
    _output: _TcpOutput | None = None

    def __drop__(self) -> None:
        self.state = "closed"  # a pollable that outlives its socket is ready
        super().__drop__()

    def _must(self, code: ErrorCode, *states: str) -> None:
        if self.state not in states:
            raise refuse(code)

    # -- binding and listening -----------------------------------------------------------------------

    @answering
    def start_bind(self, network: object, local_address: IpSocketAddress) -> None:
        self.bind_to(ADDRESSES.endpoint_of(local_address, self.family))
        self.state = "bind-started"

    @answering
    def finish_bind(self) -> None:
        self._must(ErrorCode.NOT_IN_PROGRESS, "bind-started")
        self.state = "bound"

    @answering
    def start_listen(self) -> None:
        self.start_listening()
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
        self.must("unbound", "bind-started", "bound", "listen-started", "listening")
        self.set_backlog(value)

    @answering
    def accept(self) -> tuple[TcpSocket, InputStream, OutputStream]:
        self.must("listening")
        client = self.next_connection()
        return client, *client._streams()

    # -- connecting ----------------------------------------------------------------------------------

    @answering
    def start_connect(self, network: object, remote_address: IpSocketAddress) -> None:
        self.begin_connecting(ADDRESSES.endpoint_of(remote_address, self.family))

    @answering
    def finish_connect(self) -> tuple[InputStream, OutputStream]:
        self._must(ErrorCode.NOT_IN_PROGRESS, "connecting")
        if not self.connecting_over():
            raise refuse(ErrorCode.WOULD_BLOCK)
        self.end_connecting()
        return self._streams()

    def _streams(self) -> tuple[InputStream, OutputStream]:
        self._output = _TcpOutput(self.wasi, self.shared)
        self._input = _TcpInput(self.wasi, self.shared, self._output)
        return self._input, self._output

    @answering
    def shutdown(self, shutdown_type: ShutdownType) -> None:
        self.must("connected")
        assert self._input is not None
        assert self._output is not None
        if shutdown_type is not ShutdownType.SEND:
            self._input.ended = True
            self.shared.shut_down(socket.SHUT_RD)
        if shutdown_type is not ShutdownType.RECEIVE:
            self._output.finish()

    @answering
    def local_address(self) -> IpSocketAddress:
        self.must("bound", "listen-started", "listening", "connected")
        return self._address(self.local_name())

    @answering
    def remote_address(self) -> IpSocketAddress:
        self.must("connected")
        return self._address(self.peer)

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
        return self.read_keep_alive()

    @answering
    def set_keep_alive_enabled(self, value: bool) -> None:
        self.write_keep_alive(value)

    @answering
    def keep_alive_idle_time(self) -> int:
        return self.read_keep_alive_part("IDLE")

    @answering
    def set_keep_alive_idle_time(self, value: int) -> None:
        self.write_keep_alive_part("IDLE", value)

    @answering
    def keep_alive_interval(self) -> int:
        return self.read_keep_alive_part("INTVL")

    @answering
    def set_keep_alive_interval(self, value: int) -> None:
        self.write_keep_alive_part("INTVL", value)

    @answering
    def keep_alive_count(self) -> int:
        return self.read_keep_alive_part("CNT")

    @answering
    def set_keep_alive_count(self, value: int) -> None:
        self.write_keep_alive_part("CNT", value)


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
        self._shared.shut_down(socket.SHUT_RD)
        self._shared.release()


class _TcpOutput(OutputStream):
    """The bytes to the peer."""

    def __init__(self, wasi: Wasi, shared: SharedSocket) -> None:
        super().__init__(wasi)
        self._sender = TcpSender(wasi.grants.network, shared)
        self.finishing = False
        """Whether to shut the direction down once the buffered bytes were sent."""

    def room(self) -> int:
        if not self.flushed():
            return 0
        return CHUNK_BYTES if self.wasi.scope.wait(0, write=(self._sender.number(),))[1] else 0

    def give(self, data: bytes) -> None:
        with _failures():
            self._sender.accept(data)

    def flush_now(self) -> None:
        self.flushed()

    def flushed(self) -> bool:
        with _failures():
            return self._sender.flushed()

    def interest(self) -> Interest:
        return Interest(write=(self._sender.number(),))

    def finish(self) -> None:
        """Accept no more; buffered bytes are sent while the guest uses the other direction."""
        self.ended = self.finishing = True
        self.go_on()

    def go_on(self) -> None:
        """Send the buffered bytes of a finished stream, then shut the direction down."""
        if not self.finishing:
            return
        try:
            if not self._sender.flushed():
                return
            self._sender.finish()
        except OSError:
            self._sender.discard()
        self.finishing = False

    def close(self) -> None:
        self.finish()
        self._sender.release()


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    """Turn the errors of sending into the end or the failure of the stream."""
    try:
        yield
    except BrokenPipeError:
        raise Ended from None
    except OSError as error:
        raise failed(error) from None
