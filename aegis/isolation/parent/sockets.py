"""In the parent: make, bind and connect the sockets of a guest, for a worker that can do none of that itself.

The worker has no network: no system call of its own makes a socket or connects one, and its network namespace is empty.
It asks for each step (``["socket", number, verb, …]``). The parent judges every address by the policy and hands over

* of TCP the socket, which the worker reads and writes itself once it is connected;
* of UDP no socket, because that would send to any address, but two descriptors that become readable when a datagram
  has come and when there is room for one. The datagrams pass through the parent, which judges each.

The parent keeps what it handed over until the worker closes it or the sandbox ends: it can hang up on an address that
turns out to be a denied name's.
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
from aegis.isolation.protocol.channel import Broken
from aegis.support.descriptors import socket_above_standard, socket_pair, standard_reserved
from aegis.support.lean import TYPE_CHECKING, Any
from aegis.values import Decision

if TYPE_CHECKING:
    from aegis.engine.call.door import Door
    from aegis.limits import Limits
    from aegis.policy.network import NetworkCapability, NetworkVerdict

__all__ = ["SOCKET_NUMBER", "SocketService"]

SOCKET_NUMBER = struct.Struct("<q")
"""What a packet with descriptors says: the number of their socket."""
_MAX_PORT, _MAX_BACKLOG, _MAX_NAME_CHARACTERS = 65535, 4096, 253
_MAX_WORD = (1 << 32) - 1
_MAX_OPTION = (1 << 31) - 1
_RECEIVED = 1 << 16
_SHORTEST = struct.pack("@ll", 0, 1)
_UNSPECIFIED = ("0.0.0.0", "::")
_OPTIONS = [
    [socket.SOL_SOCKET, socket.SO_RCVBUF], [socket.SOL_SOCKET, socket.SO_SNDBUF], [socket.IPPROTO_IP, socket.IP_TTL],
    [socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS], [socket.IPPROTO_IPV6, socket.IPV6_V6ONLY],
]  # fmt: skip
"""What a worker may set of a UDP socket; of TCP sockets its filter of system calls says it."""


class _Made:
    """A socket that was made for a worker."""

    def __init__(self, family: int, kind: int) -> None:
        self.family, self.kind = family, kind
        self.open_to_all = False
        """Whether a rule lets it listen: every peer that none denies may send to it then."""
        self._pollers: list[select.epoll] = []
        self.socket = socket_above_standard(socket.socket(family, kind))
        try:
            self.socket.setblocking(False)
            # The worker can make the socket that it shares block again. The bound for sending holds for connect(2) too.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SHORTEST)
            for event in (select.EPOLLIN, select.EPOLLOUT) if kind == socket.SOCK_DGRAM else ():
                self._pollers.append(select.epoll())
                self._pollers[-1].register(self.socket, event)
        except BaseException:
            self.close()
            raise

    def hand_over(self, way: socket.socket, number: int) -> None:
        """Send the worker its descriptors. What they watch stays watched when the copies here are closed."""
        given = [poller.fileno() for poller in self._pollers] or [self.socket.fileno()]
        socket.send_fds(way, [SOCKET_NUMBER.pack(number)], given)
        self._close_pollers()

    def _close_pollers(self) -> None:
        while self._pollers:
            self._pollers.pop().close()

    def close(self) -> None:
        """Close it, and end its connection: a worker may have kept a copy, which nothing could hang up later."""
        self._close_pollers()
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class SocketService:
    """The sockets of one sandbox, and the judge of its network.

    ``worker_end`` is the worker's end of the way that descriptors take, until it was handed over.
    """

    def __init__(self, capability: NetworkCapability, limits: Limits) -> None:
        self.judge = NetworkJudge(capability)
        self.listens = bool(capability.listen)
        self.lock = threading.RLock()  # look-ups end on other threads, and the collector may close a sandbox anywhere
        self._limits = limits
        self._made: dict[int, _Made] = {}
        self._denied: list[Decision] = []
        self._next = self._connections = self._bytes = 0
        self._socket, self.worker_end = socket_pair(packets=True)
        self._socket.setblocking(False)
        # The system counts descriptors that were sent and not taken, for all of this user's processes together.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        self._closer = weakref.finalize(self, _close, self._made, self._socket, self.worker_end)

    def serve(self, message: list[Any], door: Door) -> Any:
        """Do what a worker asks for and return the answer: plain data, an error number for what the system refuses.

        Raise :class:`Broken` for what no worker asks.
        """
        verb, *words = message
        serve, count = _VERBS.get(verb, (None, 0)) if type(verb) is str else (None, 0)
        if serve is None or len(words) != count:
            raise Broken("a request about sockets that cannot be read")
        try:
            with self.lock, standard_reserved():
                return serve(self, *words)
        except OSError as error:
            return error.errno or errno.EIO
        except OverflowError:  # of IPv6's flow information
            return errno.EINVAL
        finally:
            denied, self._denied = self._denied, []
            for decision in denied:  # without the lock: whoever is told may take any time
                door.decided(decision)

    # -- making and closing ------------------------------------------------------------------------

    def _open(self, family: Any, kind: Any) -> Any:
        """Make a socket; return its number in a list."""
        if family not in (socket.AF_INET, socket.AF_INET6) or kind not in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            raise Broken("a socket of a kind that no guest has")
        limit = self._limits.sockets
        if limit is not None and len(self._made) >= limit:
            return errno.EMFILE
        made = _Made(family, kind)
        number, self._next = self._next, self._next + 1
        self._made[number] = made
        try:
            made.hand_over(self._socket, number)
        except OSError:
            raise Broken("sockets that it does not take") from None
        return [number]

    def _close_one(self, number: Any) -> None:
        self._known(number)
        self._made.pop(number).close()

    def _known(self, number: Any, kind: int | None = None) -> _Made:
        made = self._made.get(number) if type(number) is int else None
        if made is None or (kind is not None and made.kind != kind):
            raise Broken("a socket that there is not")
        return made

    # -- what is judged ----------------------------------------------------------------------------

    def _bind(self, number: Any, address: Any) -> int:
        made = self._known(number)
        host, port, where = _address(made, address)
        # A client may ask for any free port of its own; what others can reach needs a rule.
        if port or host not in _UNSPECIFIED:
            scheme = "tcp" if made.kind == socket.SOCK_STREAM else "udp"
            if not self._permitted("listen at", scheme, host, port, self.judge.listen(scheme, host, port)):
                return errno.EACCES
            made.open_to_all = True
        made.socket.bind(where)
        return 0

    def _listen(self, number: Any, backlog: Any) -> int:
        made = self._known(number, socket.SOCK_STREAM)
        if type(backlog) is not int or not 0 < backlog <= _MAX_BACKLOG:
            raise Broken("a backlog out of bounds")
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
            raise Broken("more connections than it may make")
        if not self._permitted("connect to", purpose.scheme, host, port, self.judge.reach(purpose, host, port)):
            return errno.EACCES
        return made.socket.connect_ex(where)

    def _send(self, number: Any, data: Any, address: Any) -> int:
        made = self._known(number, socket.SOCK_DGRAM)
        host, port, where = _address(made, address)
        if type(data) is not bytes or len(data) > MAX_DATAGRAM_BYTES:
            raise Broken("a datagram that cannot be sent")
        if not self._permitted("connect to", "udp", host, port, self.judge.connect("udp", host, port)):
            return errno.EACCES
        self._charge(len(data))
        made.socket.sendto(data, where)
        return 0

    def _receive(self, number: Any) -> Any:
        """Return size, sender and data of the next datagram; no sender and no data where the guest may hear neither."""
        made = self._known(number, socket.SOCK_DGRAM)
        data, sender = made.socket.recvfrom(_RECEIVED)
        self._charge(len(data))
        judge = self.judge.accept if made.open_to_all else self.judge.connect
        if not judge("udp", str(sender[0]).partition("%")[0], int(sender[1])):
            return [len(data), None, None]
        return [len(data), list(sender), data]

    def _permitted(self, action: str, scheme: str, host: str, port: int, verdict: NetworkVerdict) -> bool:
        """Tell whether a verdict permits. A denial is recorded; an honest worker, which judged before, meets none."""
        if not verdict:
            target = f"{scheme}://{shown(host, port)}"
            self._denied.append(
                Decision(
                    capability="network", action=action, target=target, allowed=False, rule=verdict.rule,
                    remedy=target,
                )
            )  # fmt: skip
        return bool(verdict)

    def _charge(self, count: int) -> None:
        self._bytes += count
        limit = self._limits.network_bytes
        if limit is not None and self._bytes > limit + _RECEIVED:  # it counts what it received afterwards
            raise Broken("more bytes in datagrams than it may send and receive")

    # -- what needs no judging ---------------------------------------------------------------------

    def _name(self, number: Any) -> list[Any]:
        return list(self._known(number, socket.SOCK_DGRAM).socket.getsockname())

    def _get(self, number: Any, level: Any, option: Any) -> list[int]:
        if [level, option] not in _OPTIONS:
            raise Broken("an option that no guest has")
        return [self._known(number, socket.SOCK_DGRAM).socket.getsockopt(level, option)]

    def _set(self, number: Any, level: Any, option: Any, value: Any) -> int:
        if [level, option] not in _OPTIONS or type(value) is not int or not 0 <= value <= _MAX_OPTION:
            raise Broken("an option that no guest sets")
        self._known(number, socket.SOCK_DGRAM).socket.setsockopt(level, option, value)
        return 0

    def hang_up(self) -> None:
        """End the connections to addresses of denied names."""
        with self.lock:
            for made in self._made.values():
                with contextlib.suppress(OSError):  # it is not connected, or no longer
                    if self.judge.is_closed(str(made.socket.getpeername()[0]).partition("%")[0]):
                        made.socket.shutdown(socket.SHUT_RDWR)

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
"""What serves each verb, and how many words follow it."""


def _address(made: _Made, words: Any) -> tuple[str, int, Address]:
    """Return host, port and the system's form of an address that a worker sent; it is never a name."""
    six = made.family == socket.AF_INET6
    if type(words) is not list or len(words) != (4 if six else 2) or type(words[0]) is not str:
        raise Broken("an address that cannot be read")
    host, port, *more = words
    try:
        read = ip_address(host)
    except ValueError:
        raise Broken("an address that cannot be read") from None
    if isinstance(read, IPv6Address) != six or str(read) != host or "%" in host:
        raise Broken("an address of another family or notation")
    if type(port) is not int or not 0 <= port <= _MAX_PORT:
        raise Broken("a port that there is not")
    if any(type(word) is not int or not 0 <= word <= _MAX_WORD for word in more):
        raise Broken("an address that cannot be read")
    return host, port, (host, port, *more)


def _purpose(scheme: Any, name: Any, method: Any) -> Purpose:
    """Return what a connection is said to be for: a guest's own socket, or an HTTP request to a host."""
    if scheme == "tcp" and name == "" and method is None:
        return Purpose("tcp")
    if scheme not in ("http", "https") or type(name) is not str or type(method) is not str:
        raise Broken("a connection for nothing that rules know")
    if not 0 < len(name) <= _MAX_NAME_CHARACTERS or len(method) > _MAX_NAME_CHARACTERS:
        raise Broken("a connection for nothing that rules know")
    return Purpose(scheme, name, method)


def _close(made: dict[int, _Made], *ends: socket.socket) -> None:
    for one in made.values():
        one.close()
    made.clear()
    for end in ends:
        end.close()
