"""Sockets in the parent: creates, binds and connects the guest's sockets for a worker that cannot.

The worker has no network: its seccomp filter denies the system calls that create and connect sockets, and its network
namespace is empty. It requests each operation (``["socket", number, verb, …]``). The parent checks every address
against the policy and passes to the worker

* for TCP, the socket; the worker reads and writes it once it is connected;
* for UDP, not the socket, which could send to any address, but two epoll descriptors that become readable when a
  datagram has arrived and when there is room to send one. Datagrams pass through the parent, which checks each.

The parent keeps its own descriptor of each socket until the worker closes the socket or the sandbox ends, so that it
can shut down a connection to an address that later turns out to belong to a denied name.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import struct
import threading
import weakref
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

from aegis.host.net.network import shown
from aegis.host.net.sockets import MAX_DATAGRAM_BYTES, Address, Purpose
from aegis.host.net.verdicts import NetworkJudge
from aegis.isolation.protocol.channel import ProtocolError
from aegis.isolation.protocol.packets import SOCKET_NUMBER
from aegis.support.descriptors import socket_above_standard, socket_pair, standard_reserved
from aegis.support.lean import TYPE_CHECKING, Any
from aegis.values import Decision

if TYPE_CHECKING:
    from aegis.engine.call.door import Door
    from aegis.limits import Limits
    from aegis.policy.network import NetworkCapability, NetworkVerdict

__all__ = ["SocketService"]

_MAX_PORT, _BACKLOG_LIMIT, _MAX_NAME_CHARACTERS = 65535, 4096, 253
_LARGEST_UINT32 = (1 << 32) - 1
_LARGEST_INT32 = (1 << 31) - 1
_RECEIVE_BYTES = 1 << 16
_SHORTEST_TIMEOUT = struct.pack("@ll", 0, 1)  # struct timeval: 1 µs; 0 would mean no timeout
_UNSPECIFIED = ("0.0.0.0", "::")
_OPTIONS = [
    [socket.SOL_SOCKET, socket.SO_RCVBUF], [socket.SOL_SOCKET, socket.SO_SNDBUF], [socket.IPPROTO_IP, socket.IP_TTL],
    [socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS], [socket.IPPROTO_IPV6, socket.IPV6_V6ONLY],
]  # fmt: skip
"""Options that a worker may get and set on a UDP socket; for TCP sockets, its seccomp filter restricts them."""


class _WorkerSocket:
    """A socket created for a worker."""

    def __init__(self, family: int, kind: int) -> None:
        self.family, self.kind = family, kind
        self.open_to_all = False
        """Whether a rule allows listening at its address: then any peer that no rule denies may send to it."""
        self.peer = ""
        """The address to which it connects, or is connected."""
        self._pollers: list[select.epoll] = []
        self.socket = socket_above_standard(socket.socket(family, kind))
        try:
            self.socket.setblocking(False)
            # The worker shares the file description and can clear O_NONBLOCK. SO_SNDTIMEO also bounds connect(2), so
            # the parent never blocks there (socket(7)).
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SHORTEST_TIMEOUT)
            for event in (select.EPOLLIN, select.EPOLLOUT) if kind == socket.SOCK_DGRAM else ():
                self._pollers.append(select.epoll())
                self._pollers[-1].register(self.socket, event)
        except BaseException:
            self.close()
            raise

    def hand_over(self, transfer: socket.socket, number: int) -> None:
        """Pass the descriptors to the worker. The epoll instances live on when the parent closes its copies."""
        given = [poller.fileno() for poller in self._pollers] or [self.socket.fileno()]
        socket.send_fds(transfer, [SOCKET_NUMBER.pack(number)], given)
        self._close_pollers()

    def _close_pollers(self) -> None:
        while self._pollers:
            self._pollers.pop().close()

    def close(self) -> None:
        """Shut down the connection and close the socket. Closing alone would leave the worker's copy connected."""
        self._close_pollers()
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class SocketService:
    """Serves the sockets of one sandbox; ``judge`` decides by the policy.

    ``worker_end`` is the worker's end of the socket that passes descriptors, until the worker has it.
    """

    def __init__(self, capability: NetworkCapability, limits: Limits) -> None:
        self.judge = NetworkJudge(capability)
        self.listens = bool(capability.listen)
        # Look-ups end on resolver threads. Reentrant, because the garbage collector may close a sandbox at any point.
        self.lock = threading.RLock()
        self._limits = limits
        self._made: dict[int, _WorkerSocket] = {}
        self._denied: list[Decision] = []
        self._next = self._connections = self._bytes = 0
        self._socket, self.worker_end = socket_pair(packets=True)
        self._socket.setblocking(False)
        # The kernel counts descriptors in flight per user, against RLIMIT_NOFILE (unix(7), ETOOMANYREFS). The smallest
        # send buffer bounds how many a worker can leave unreceived.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        self._closer = weakref.finalize(self, _close, self._made, self._socket, self.worker_end)

    def serve(self, message: list[Any], door: Door) -> Any:
        """Serve a request and return the answer as plain data; an integer is an error number, 0 for success.

        Raise :class:`ProtocolError` for a malformed request.
        """
        verb, *words = message
        serve, count = _VERBS.get(verb, (None, 0)) if type(verb) is str else (None, 0)
        if serve is None or len(words) != count:
            raise ProtocolError("malformed socket request")
        try:
            with self.lock, standard_reserved():
                return serve(self, *words)
        except OSError as error:
            return error.errno or errno.EIO
        except OverflowError:  # an IPv6 flow label out of range
            return errno.EINVAL
        finally:
            denied, self._denied = self._denied, []
            for decision in denied:  # after releasing the lock: subscribers may take any time
                door.decided(decision)

    # -- opening and closing -----------------------------------------------------------------------

    def _open(self, family: Any, kind: Any) -> Any:
        """Create a socket; return its number in a list."""
        if family not in (socket.AF_INET, socket.AF_INET6) or kind not in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            raise ProtocolError("unsupported socket family or type")
        limit = self._limits.sockets
        if limit is not None and len(self._made) >= limit:
            return errno.EMFILE
        made = _WorkerSocket(family, kind)
        number, self._next = self._next, self._next + 1
        self._made[number] = made
        try:
            made.hand_over(self._socket, number)
        except OSError:
            raise ProtocolError("the worker does not receive the descriptors of its sockets") from None
        return [number]

    def _close_one(self, number: Any) -> None:
        self._known(number)
        self._made.pop(number).close()

    def _known(self, number: Any, kind: int | None = None) -> _WorkerSocket:
        made = self._made.get(number) if type(number) is int else None
        if made is None or (kind is not None and made.kind != kind):
            raise ProtocolError("unknown socket")
        return made

    # -- operations that the policy decides --------------------------------------------------------

    def _bind(self, number: Any, address: Any) -> int:
        made = self._known(number)
        host, port, where = _address(made, address)
        # Clients may bind to port 0 of the unspecified address; any other address needs a rule, since peers reach it.
        if port or host not in _UNSPECIFIED:
            scheme = "tcp" if made.kind == socket.SOCK_STREAM else "udp"
            if not self._permitted("listen at", scheme, host, port, self.judge.listen(scheme, host, port)):
                return errno.EACCES
            made.open_to_all = True
        made.socket.bind(where)
        return 0

    def _listen(self, number: Any, backlog: Any) -> int:
        made = self._known(number, socket.SOCK_STREAM)
        if type(backlog) is not int or not 0 < backlog <= _BACKLOG_LIMIT:
            raise ProtocolError(f"listen backlog out of range (maximum {_BACKLOG_LIMIT})")
        name = made.socket.getsockname()
        host, port = str(name[0]).partition("%")[0], int(name[1])
        if not self._permitted("listen at", "tcp", host, port, self.judge.listen("tcp", host, port)):
            return errno.EACCES
        made.socket.listen(backlog)
        return 0

    def _connect(self, number: Any, scheme: Any, name: Any, method: Any, address: Any) -> int:
        made = self._known(number, socket.SOCK_STREAM)
        host, port, where = _address(made, address)
        purpose = _purpose(scheme, name, method)
        self._connections += 1
        if self._limits.connections is not None and self._connections > self._limits.connections:
            raise ProtocolError(f"connection limit exceeded ({self._connections}/{self._limits.connections})")
        if not self._permitted("connect to", purpose.scheme, host, port, self.judge.reach(purpose, host, port)):
            return errno.EACCES
        made.peer = host
        return made.socket.connect_ex(where)

    def _send(self, number: Any, data: Any, address: Any) -> int:
        made = self._known(number, socket.SOCK_DGRAM)
        host, port, where = _address(made, address)
        if type(data) is not bytes or len(data) > MAX_DATAGRAM_BYTES:
            raise ProtocolError("malformed or oversized datagram")
        if not self._permitted("connect to", "udp", host, port, self.judge.connect("udp", host, port)):
            return errno.EACCES
        self._charge(len(data))
        try:
            made.socket.sendto(data, where)
        except BlockingIOError:
            self._charge(-len(data))
            raise
        return 0

    def _receive(self, number: Any) -> Any:
        """Receive a datagram; return its size, sender and data; the last two are ``None`` for a denied sender."""
        made = self._known(number, socket.SOCK_DGRAM)
        data, sender = made.socket.recvfrom(_RECEIVE_BYTES)
        self._charge(len(data))
        judge = self.judge.accept if made.open_to_all else self.judge.connect
        if not judge("udp", str(sender[0]).partition("%")[0], int(sender[1])):
            return [len(data), None, None]
        return [len(data), list(sender), data]

    def _permitted(self, action: str, scheme: str, host: str, port: int, verdict: NetworkVerdict) -> bool:
        """Return whether the verdict permits the operation; record a denial.

        A worker checks the policy before it sends a request, so denials here indicate a compromised worker.
        """
        if not verdict:
            target = f"{scheme}://{shown(host, port)}"
            self._denied.append(
                Decision(
                    capability="network", action=action, target=target, allowed=False, rule=verdict.rule,
                    wanted=target,
                )
            )  # fmt: skip
        return bool(verdict)

    def _charge(self, count: int) -> None:
        self._bytes += count
        limit = self._limits.network_bytes
        # The worker counts a datagram after receiving it, so it may exceed the limit by one.
        if limit is not None and self._bytes > limit + _RECEIVE_BYTES:
            raise ProtocolError(f"datagram bytes exceed network_bytes ({self._bytes:,}/{limit:,})")

    # -- operations without a decision -------------------------------------------------------------

    def _name(self, number: Any) -> list[Any]:
        return list(self._known(number, socket.SOCK_DGRAM).socket.getsockname())

    def _get(self, number: Any, level: Any, option: Any) -> list[int]:
        if [level, option] not in _OPTIONS:
            raise ProtocolError("unsupported socket option")
        return [self._known(number, socket.SOCK_DGRAM).socket.getsockopt(level, option)]

    def _set(self, number: Any, level: Any, option: Any, value: Any) -> int:
        if [level, option] not in _OPTIONS or type(value) is not int or not 0 <= value <= _LARGEST_INT32:
            raise ProtocolError("unsupported socket option or value")
        self._known(number, socket.SOCK_DGRAM).socket.setsockopt(level, option, value)
        return 0

    def hang_up(self) -> None:
        """Shut down connections to addresses of denied names."""
        with self.lock:
            for made in self._made.values():
                with contextlib.suppress(OSError):  # not connected
                    peer = made.peer or str(made.socket.getpeername()[0]).partition("%")[0]
                    if self.judge.is_closed(peer):
                        made.socket.shutdown(socket.SHUT_RDWR)  # ends also an attempt to connect

    def close(self) -> None:
        """Close every socket."""
        with self.lock:
            self._closer()


_VERBS: dict[str, tuple[Callable[..., Any], int]] = {
    "open": (SocketService._open, 2), "close": (SocketService._close_one, 1), "bind": (SocketService._bind, 2),
    "listen": (SocketService._listen, 2), "connect": (SocketService._connect, 5), "send": (SocketService._send, 3),
    "receive": (SocketService._receive, 1), "name": (SocketService._name, 1), "get": (SocketService._get, 3),
    "set": (SocketService._set, 4),
}  # fmt: skip
"""The method that serves each verb, and the number of its arguments."""


def _address(made: _WorkerSocket, words: Any) -> tuple[str, int, Address]:
    """Return host, port and socket address from the worker's plain data; reject names and unusual notations.

    A name would make the socket functions of Python resolve it.
    """
    six = made.family == socket.AF_INET6
    if type(words) is not list or len(words) != (4 if six else 2) or type(words[0]) is not str:
        raise ProtocolError("malformed address")
    host, port, *more = words
    try:
        read = ip_address(host)
    except ValueError:
        raise ProtocolError("malformed address") from None
    if isinstance(read, IPv6Address) != six or str(read) != host or "%" in host:
        raise ProtocolError("address of another family, or not in canonical notation")
    if type(port) is not int or not 0 <= port <= _MAX_PORT:
        raise ProtocolError("port out of range")
    if any(type(word) is not int or not 0 <= word <= _LARGEST_UINT32 for word in more):
        raise ProtocolError("malformed address")
    return host, port, (host, port, *more)


def _purpose(scheme: Any, name: Any, method: Any) -> Purpose:
    """Return the stated purpose of a connection: a guest's own socket, or an HTTP request to a host."""
    if scheme == "tcp" and name == "" and method is None:
        return Purpose("tcp")
    if scheme not in ("http", "https") or type(name) is not str or type(method) is not str:
        raise ProtocolError("invalid purpose of a connection")
    if not 0 < len(name) <= _MAX_NAME_CHARACTERS or len(method) > _MAX_NAME_CHARACTERS:
        raise ProtocolError("invalid purpose of a connection")
    return Purpose(scheme, name, method)


def _close(made: dict[int, _WorkerSocket], *ends: socket.socket) -> None:
    for one in made.values():
        one.close()
    made.clear()
    for end in ends:
        end.close()
