"""A connection to one server: look-up, judged address, TLS, and bytes in both directions. No function blocks."""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
import time
from functools import cache

from aegis.host.net.http.http_fault import HttpFault
from aegis.host.net.http.message import Request
from aegis.host.net.network import Lookup, Network
from aegis.host.net.sockets import Purpose
from aegis.policy.addresses import read_address

__all__ = ["Transport", "roots"]

_CHUNK_BYTES = 65536
_PROTOCOLS = ["h2", "http/1.1"]
_READS_PER_PUMP = 16


@cache
def roots() -> ssl.SSLContext:
    """Return a context that verifies by the system's roots of trust, or by certifi's if the system has none.

    It has every root loaded: OpenSSL would read the system's directory at each connection, which a confined worker
    cannot. It is not the standard library's default context, which logs keys to a file that ``SSLKEYLOGFILE`` names.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    paths = ssl.get_default_verify_paths()
    if os.name == "posix":
        known = _load_file(context, paths.cafile) if paths.cafile else b""
        for path in _hashed(paths.capath):
            _load_file(context, path, known)
    if not context.cert_store_stats()["x509_ca"]:
        context.load_default_certs()  # Windows keeps its roots elsewhere
    if not context.cert_store_stats()["x509_ca"]:
        try:
            import certifi
        except ImportError:
            return context
        context.load_verify_locations(certifi.where())
    return context


def _hashed(folder: str | None) -> list[str]:
    """Return the files in a directory of certificates that OpenSSL would open: ``<hash>.<number>``."""
    try:
        names = os.listdir(folder) if folder else []
    except OSError:
        return []
    return [os.path.join(folder or "", name) for name in sorted(names) if re.fullmatch(r"[0-9a-f]{8}\.[0-9]+", name)]


def _load_file(context: ssl.SSLContext, path: str, known: bytes = b"") -> bytes:
    """Load a file of certificates and return its bytes; skip one that cannot be read, or is in ``known``."""
    try:
        with open(path, "rb") as file:
            data = file.read()
        if data.strip() not in known:
            context.load_verify_locations(cafile=path)
    except OSError:  # ssl.SSLError among them: the file holds no certificate
        return b""
    return data


class Transport:
    """A connection from look-up to close. ``protocol`` is the one that TLS negotiated, else ``http/1.1``."""

    def __init__(
        self, network: Network, request: Request, host: str, port: int, context: ssl.SSLContext | None
    ) -> None:
        self._network, self._host, self._port = network, host, port
        self._scheme, self._method = request.scheme, request.method
        self._context = context
        self._lookup: Lookup | None = None
        self._addresses: list[str] = []
        self._socket: socket.socket | None = None
        self._failure: OSError | None = None
        self._dialled = 0.0
        self._tls: ssl.SSLObject | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._cipher = b""
        self.state = "resolving"
        self.protocol = "http/1.1"
        self._resolve()

    # -- until it is open ----------------------------------------------------------------------------

    def _resolve(self) -> None:
        literal = read_address(self._host)
        if literal is not None:
            self._addresses, self.state = [str(literal)], "dialling"
            return
        try:
            self._lookup = self._network.look_up(self._host)
        except OSError:
            raise HttpFault("connection-limit-reached") from None

    def pump(self) -> bool:
        """Advance as far as possible; return whether the connection is open. Raise ``HttpFault``."""
        if self.state == "resolving":
            self._resolved()
        if self.state == "dialling":
            self._dial()
        if self.state == "connecting":
            self._connected()
        if self.state == "handshake":
            self._shake()
        return self.state == "open"

    def _resolved(self) -> None:
        lookup = self._lookup
        assert lookup is not None
        if not lookup.done:
            return
        self._lookup = None
        self._network.forget(lookup)
        if lookup.withheld:
            self._network.close_withheld(lookup)
            raise HttpFault("destination-IP-prohibited")
        if lookup.error is not None or not lookup.addresses:
            raise HttpFault("DNS-error", ("the name does not resolve", None))
        self._addresses = self._network.vetted(self._scheme, self._host, self._port, self._method, lookup.addresses)
        if not self._addresses:
            raise HttpFault("destination-IP-prohibited")
        self.state = "dialling"

    def _dial(self) -> None:
        if not self._addresses:
            raise _fault(self._failure)
        address = self._addresses.pop(0)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            self._socket = self._network.open(family, socket.SOCK_STREAM)
        except OSError as error:
            self._failure = error
            return self._dial()
        if self._socket is None:
            raise HttpFault("connection-limit-reached")
        self._network.connecting()
        self._dialled = time.monotonic()
        purpose = Purpose(self._scheme, self._host, self._method)
        number = self._network.connect(self._socket, (address, self._port), purpose)
        if number in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
            self.state = "connecting"
        else:
            self._refused(OSError(number, os.strerror(number)))

    def _refused(self, error: OSError) -> None:
        """Try the next address after a failure of this one."""
        self._failure = error
        self._drop_socket()
        self.state = "dialling"
        self._dial()

    def _connected(self) -> None:
        while self.state == "connecting":
            assert self._socket is not None
            if self._network.scope.wait(0, write=(self._socket.fileno(),))[1]:
                number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            else:
                until = self._address_deadline()
                if until is None or time.monotonic() < until:
                    return
                number = errno.ETIMEDOUT
            if not number:
                return self._opened(self._socket)
            self._refused(OSError(number, os.strerror(number)))

    def _address_deadline(self) -> float | None:
        """Return when to try the next address instead of this one; ``None`` for the last address."""
        return self._dialled + self._network.address_timeout if self.state == "connecting" and self._addresses else None

    def _opened(self, opened: socket.socket) -> None:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._scheme == "http":
            self.state = "open"
            return
        context = self._context or roots()
        context.set_alpn_protocols(_PROTOCOLS)
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=self._host)
        self.state = "handshake"

    def _shake(self) -> None:
        assert self._tls is not None
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                if self._feed() is None:
                    return
                continue
            except ssl.SSLError as error:
                raise _tls_fault(error) from None
            self._flush()
            self.protocol = self._tls.selected_alpn_protocol() or "http/1.1"
            self.state = "open"
            return

    # -- bytes ---------------------------------------------------------------------------------------

    def send(self, data: bytes) -> int:
        """Send as much as possible without blocking; return how many bytes. Raise ``HttpFault``."""
        if self._tls is None:
            return self._send(data)
        if not self._flush():
            return 0
        try:
            taken = self._tls.write(data[:_CHUNK_BYTES])
        except ssl.SSLError:
            raise HttpFault("TLS-protocol-error") from None
        self._flush()
        return taken

    def sending(self) -> bool:
        """Try to send the encrypted bytes; return whether some are still unsent."""
        return self._tls is not None and self._socket is not None and not self._flush()

    def receive(self) -> bytes | None:
        """Return received bytes, ``None`` if there are none yet, no bytes at the end. Raise ``HttpFault``."""
        if self._tls is None:
            return self._receive()
        for _ in range(_READS_PER_PUMP):
            try:
                return self._tls.read(_CHUNK_BYTES)
            except ssl.SSLWantReadError:
                if self._feed() is None:
                    return None
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLError as error:
                raise _tls_fault(error) from None
        return None

    def _feed(self) -> bool | None:
        data = self._receive()
        if data is None:
            return None
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        return True

    def _flush(self) -> bool:
        self._cipher += self._outgoing.read()
        while self._cipher:
            sent = self._send(self._cipher)
            if not sent:
                return False
            self._cipher = self._cipher[sent:]
        return True

    def _send(self, data: bytes) -> int:
        assert self._socket is not None
        try:
            sent = self._socket.send(data[:_CHUNK_BYTES])
        except BlockingIOError:
            return 0
        except OSError:
            raise HttpFault("connection-terminated") from None
        self._network.charge(sent)
        return sent

    def _receive(self) -> bytes | None:
        assert self._socket is not None
        try:
            data = self._socket.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            raise HttpFault("connection-terminated") from None
        self._network.charge(len(data))
        return data

    # -- waiting and ending --------------------------------------------------------------------------

    def interest(self, *, read: bool, write: bool) -> tuple[tuple[int, ...], tuple[int, ...], float | None]:
        """Return the descriptors to read and to write, and when (``time.monotonic``) to check again.

        ``read``: received bytes are wanted; ``write``: there are more bytes to send.
        """
        if self._lookup is not None:
            return (self._lookup.descriptor,), (), None
        if self._socket is None:
            return (), (), None
        number = (self._socket.fileno(),)
        if self.state == "connecting":
            return (), number, self._address_deadline()
        return number if read else (), number if write or self._cipher else (), None

    def close(self) -> None:
        """Close the look-up and the socket."""
        if self._lookup is not None:
            self._network.forget(self._lookup)
            self._lookup = None
        self._drop_socket()
        self.state = "closed"

    def _drop_socket(self) -> None:
        if self._socket is not None:
            self._network.close_socket(self._socket)
            self._socket = None


def _tls_fault(error: ssl.SSLError) -> HttpFault:
    if isinstance(error, ssl.SSLCertVerificationError):
        return HttpFault("TLS-certificate-error")
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return HttpFault("connection-terminated")
    if "ALERT" in (error.reason or ""):
        return HttpFault("TLS-alert-received", (None, error.reason))
    return HttpFault("TLS-protocol-error")


def _fault(error: OSError | None) -> HttpFault:
    number = error.errno if error is not None else None
    if number == errno.ECONNREFUSED:
        return HttpFault("connection-refused")
    if number == errno.ETIMEDOUT:
        return HttpFault("connection-timeout")
    if number in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
        return HttpFault("destination-IP-unroutable")
    return HttpFault("destination-unavailable")
