# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:sockets/tcp@0.2.12``."""

from __future__ import annotations

import enum
from typing import Protocol

from aegis.bindings.wasi_clocks_monotonic_clock import DURATION, Duration
from aegis.bindings.wasi_io_poll import POLLABLE, Pollable
from aegis.bindings.wasi_io_streams import INPUT_STREAM, OUTPUT_STREAM, InputStream, OutputStream
from aegis.bindings.wasi_sockets_network import (
    ERROR_CODE,
    IP_ADDRESS_FAMILY,
    IP_SOCKET_ADDRESS,
    NETWORK,
    ErrorCode,
    IpAddressFamily,
    IpSocketAddress,
    Network,
)
from aegis.wit.types import Borrow, Enum, Function, Interface, Own, Resource, Result, Tuple
from aegis.wit.values import Err

__all__ = [
    "DURATION",
    "ERROR_CODE",
    "INPUT_STREAM",
    "INTERFACE",
    "IP_ADDRESS_FAMILY",
    "IP_SOCKET_ADDRESS",
    "NETWORK",
    "OUTPUT_STREAM",
    "POLLABLE",
    "SHUTDOWN_TYPE",
    "TCP_SOCKET",
    "Duration",
    "ErrorCode",
    "Host",
    "InputStream",
    "IpAddressFamily",
    "IpSocketAddress",
    "Network",
    "OutputStream",
    "Pollable",
    "ShutdownType",
    "TcpSocket",
]


class ShutdownType(enum.Enum):
    """The enum ``shutdown-type``."""

    RECEIVE = "receive"
    SEND = "send"
    BOTH = "both"


class TcpSocket(Protocol):
    """The resource ``tcp-socket``."""

    def start_bind(self, network: Network, local_address: IpSocketAddress) -> Err[ErrorCode] | None: ...

    def finish_bind(self) -> Err[ErrorCode] | None: ...

    def start_connect(self, network: Network, remote_address: IpSocketAddress) -> Err[ErrorCode] | None: ...

    def finish_connect(self) -> tuple[InputStream, OutputStream] | Err[ErrorCode]: ...

    def start_listen(self) -> Err[ErrorCode] | None: ...

    def finish_listen(self) -> Err[ErrorCode] | None: ...

    def accept(self) -> tuple[TcpSocket, InputStream, OutputStream] | Err[ErrorCode]: ...

    def local_address(self) -> IpSocketAddress | Err[ErrorCode]: ...

    def remote_address(self) -> IpSocketAddress | Err[ErrorCode]: ...

    def is_listening(self) -> bool: ...

    def address_family(self) -> IpAddressFamily: ...

    def set_listen_backlog_size(self, value: int) -> Err[ErrorCode] | None: ...

    def keep_alive_enabled(self) -> bool | Err[ErrorCode]: ...

    def set_keep_alive_enabled(self, value: bool) -> Err[ErrorCode] | None: ...

    def keep_alive_idle_time(self) -> Duration | Err[ErrorCode]: ...

    def set_keep_alive_idle_time(self, value: Duration) -> Err[ErrorCode] | None: ...

    def keep_alive_interval(self) -> Duration | Err[ErrorCode]: ...

    def set_keep_alive_interval(self, value: Duration) -> Err[ErrorCode] | None: ...

    def keep_alive_count(self) -> int | Err[ErrorCode]: ...

    def set_keep_alive_count(self, value: int) -> Err[ErrorCode] | None: ...

    def hop_limit(self) -> int | Err[ErrorCode]: ...

    def set_hop_limit(self, value: int) -> Err[ErrorCode] | None: ...

    def receive_buffer_size(self) -> int | Err[ErrorCode]: ...

    def set_receive_buffer_size(self, value: int) -> Err[ErrorCode] | None: ...

    def send_buffer_size(self) -> int | Err[ErrorCode]: ...

    def set_send_buffer_size(self, value: int) -> Err[ErrorCode] | None: ...

    def subscribe(self) -> Pollable: ...

    def shutdown(self, shutdown_type: ShutdownType) -> Err[ErrorCode] | None: ...


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""


_NAME = "wasi:sockets/tcp@0.2.12"

SHUTDOWN_TYPE = Enum("shutdown-type", ("receive", "send", "both"), python=ShutdownType, owner=_NAME)
TCP_SOCKET = Resource("tcp-socket", python=TcpSocket, owner=_NAME)

INTERFACE = Interface(
    _NAME,
    functions={
        "[method]tcp-socket.start-bind": Function(
            (("self", Borrow(TCP_SOCKET)), ("network", Borrow(NETWORK)), ("local-address", IP_SOCKET_ADDRESS)),
            Result(None, ERROR_CODE),
        ),
        "[method]tcp-socket.finish-bind": Function((("self", Borrow(TCP_SOCKET)),), Result(None, ERROR_CODE)),
        "[method]tcp-socket.start-connect": Function(
            (("self", Borrow(TCP_SOCKET)), ("network", Borrow(NETWORK)), ("remote-address", IP_SOCKET_ADDRESS)),
            Result(None, ERROR_CODE),
        ),
        "[method]tcp-socket.finish-connect": Function(
            (("self", Borrow(TCP_SOCKET)),),
            Result(Tuple((Own(INPUT_STREAM), Own(OUTPUT_STREAM))), ERROR_CODE),
        ),
        "[method]tcp-socket.start-listen": Function((("self", Borrow(TCP_SOCKET)),), Result(None, ERROR_CODE)),
        "[method]tcp-socket.finish-listen": Function((("self", Borrow(TCP_SOCKET)),), Result(None, ERROR_CODE)),
        "[method]tcp-socket.accept": Function(
            (("self", Borrow(TCP_SOCKET)),),
            Result(Tuple((Own(TCP_SOCKET), Own(INPUT_STREAM), Own(OUTPUT_STREAM))), ERROR_CODE),
        ),
        "[method]tcp-socket.local-address": Function(
            (("self", Borrow(TCP_SOCKET)),),
            Result(IP_SOCKET_ADDRESS, ERROR_CODE),
        ),
        "[method]tcp-socket.remote-address": Function(
            (("self", Borrow(TCP_SOCKET)),),
            Result(IP_SOCKET_ADDRESS, ERROR_CODE),
        ),
        "[method]tcp-socket.is-listening": Function((("self", Borrow(TCP_SOCKET)),), "bool"),
        "[method]tcp-socket.address-family": Function((("self", Borrow(TCP_SOCKET)),), IP_ADDRESS_FAMILY),
        "[method]tcp-socket.set-listen-backlog-size": Function(
            (("self", Borrow(TCP_SOCKET)), ("value", "u64")),
            Result(None, ERROR_CODE),
        ),
        "[method]tcp-socket.keep-alive-enabled": Function((("self", Borrow(TCP_SOCKET)),), Result("bool", ERROR_CODE)),
        "[method]tcp-socket.set-keep-alive-enabled": Function(
            (("self", Borrow(TCP_SOCKET)), ("value", "bool")),
            Result(None, ERROR_CODE),
        ),
        "[method]tcp-socket.keep-alive-idle-time": Function(
            (("self", Borrow(TCP_SOCKET)),),
            Result(DURATION, ERROR_CODE),
        ),
        "[method]tcp-socket.set-keep-alive-idle-time": Function(
            (("self", Borrow(TCP_SOCKET)), ("value", DURATION)),
            Result(None, ERROR_CODE),
        ),
        "[method]tcp-socket.keep-alive-interval": Function(
            (("self", Borrow(TCP_SOCKET)),),
            Result(DURATION, ERROR_CODE),
        ),
        "[method]tcp-socket.set-keep-alive-interval": Function(
            (("self", Borrow(TCP_SOCKET)), ("value", DURATION)),
            Result(None, ERROR_CODE),
        ),
        "[method]tcp-socket.keep-alive-count": Function((("self", Borrow(TCP_SOCKET)),), Result("u32", ERROR_CODE)),
        "[method]tcp-socket.set-keep-alive-count": Function(
            (("self", Borrow(TCP_SOCKET)), ("value", "u32")),
            Result(None, ERROR_CODE),
        ),
        "[method]tcp-socket.hop-limit": Function((("self", Borrow(TCP_SOCKET)),), Result("u8", ERROR_CODE)),
        "[method]tcp-socket.set-hop-limit": Function(
            (("self", Borrow(TCP_SOCKET)), ("value", "u8")),
            Result(None, ERROR_CODE),
        ),
        "[method]tcp-socket.receive-buffer-size": Function((("self", Borrow(TCP_SOCKET)),), Result("u64", ERROR_CODE)),
        "[method]tcp-socket.set-receive-buffer-size": Function(
            (("self", Borrow(TCP_SOCKET)), ("value", "u64")),
            Result(None, ERROR_CODE),
        ),
        "[method]tcp-socket.send-buffer-size": Function((("self", Borrow(TCP_SOCKET)),), Result("u64", ERROR_CODE)),
        "[method]tcp-socket.set-send-buffer-size": Function(
            (("self", Borrow(TCP_SOCKET)), ("value", "u64")),
            Result(None, ERROR_CODE),
        ),
        "[method]tcp-socket.subscribe": Function((("self", Borrow(TCP_SOCKET)),), Own(POLLABLE)),
        "[method]tcp-socket.shutdown": Function(
            (("self", Borrow(TCP_SOCKET)), ("shutdown-type", SHUTDOWN_TYPE)),
            Result(None, ERROR_CODE),
        ),
    },
    types={
        "input-stream": INPUT_STREAM,
        "output-stream": OUTPUT_STREAM,
        "pollable": POLLABLE,
        "duration": DURATION,
        "network": NETWORK,
        "error-code": ERROR_CODE,
        "ip-socket-address": IP_SOCKET_ADDRESS,
        "ip-address-family": IP_ADDRESS_FAMILY,
        "shutdown-type": SHUTDOWN_TYPE,
        "tcp-socket": TCP_SOCKET,
    },
)
