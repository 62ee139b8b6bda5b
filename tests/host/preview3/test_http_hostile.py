"""Guests that use wasi:http 0.3 as no program should, in process and isolated: each ends by an error, none holds on."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from aegis import Aegis, DeadlineExceeded, GuestTrap, NetworkCapability, QuotaExceeded
from tests.host.http.servers import raw_server, server
from tests.host.preview3.http_text import CODES, guest

pytestmark = [
    pytest.mark.parametrize("isolate", [False, True], ids=["in process", "isolated"]),
    pytest.mark.usual(one_of="isolate"),
]

STREAMED = """
  (local.set $w (call $trailers)) (local.set $x (call $body))
  (call $make (call $low (local.get $x)) (call $low (local.get $w)))
  (local.set $a (call $send-async (i32.load (i32.const 480)) (i32.const 0)))
  (drop (call $write (call $high (local.get $x)) (i32.const 1024) (i32.const 5)))"""
"""A request whose contents begin with five bytes; its trailers are to be written to $w, and its contents to $x."""
PARTIAL = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n0123456789"


def code(name: str) -> int:
    """Return the number that `go` returns for an error code."""
    return 100 + CODES.index(name)


def go(isolate: bool, port: int, body: str, *, timeout: str = "20s", granted: bool = True, **limits: Any) -> int:
    place = f"127.0.0.1:{port}"
    network = NetworkCapability(allow=(f"http://{place}",) if granted else ())
    runtime = Aegis(timeout=timeout, network=network, **limits)
    with runtime.sandbox(runtime.load_wat(guest(place, body)), isolate=isolate) as sandbox:
        result: int = sandbox.call("go")
        return result


class Recorded:
    """A server that keeps what it received, and notes the end of each connection."""

    def __init__(self, *pieces: bytes, then_close: bool = False) -> None:
        self.received, self.ended = bytearray(), threading.Semaphore(0)
        self._pieces, self._then_close = pieces, then_close

    def serve(self, connection: socket.socket) -> None:
        try:
            self.received += connection.recv(65536)
            for piece in self._pieces:
                connection.sendall(piece)
            while not self._then_close and (data := connection.recv(65536)):
                self.received += data
        finally:
            self.ended.release()

    @contextlib.contextmanager
    def running(self) -> Iterator[int]:
        with raw_server(self.serve) as port:
            yield port

    def wait(self) -> bool:
        """Wait until a connection has ended; return whether one has."""
        return self.ended.acquire(timeout=20)


@pytest.mark.parametrize("fields", [256, 257])
def test_as_many_fields_as_a_message_may_have_and_no_more(isolate: bool, fields: int) -> None:
    body = f"""
      (i32.store8 (i32.const 600) (i32.const 120)) (local.set $a (call $fields))
      (loop $l
        (call $append (local.get $a) (i32.const 600) (i32.const 1) (i32.const 600) (i32.const 1) (i32.const 400))
        (br_if $l (i32.lt_u (local.tee $b (i32.add (local.get $b) (i32.const 1))) (i32.const {fields}))))
      (local.get $b)"""
    if fields == 256:
        assert go(isolate, 1, body) == 256
        return
    with pytest.raises(QuotaExceeded) as caught:
        go(isolate, 1, body)
    assert caught.value.limit == "http_fields"


def test_a_value_larger_than_a_message_may_have(isolate: bool) -> None:
    with pytest.raises(QuotaExceeded) as caught:
        go(isolate, 1, """
          (i32.store8 (i32.const 600) (i32.const 120))
          (call $append (call $fields) (i32.const 600) (i32.const 1) (i32.const 0) (i32.const 131072) (i32.const 400))
          (i32.const 0)""")  # fmt: skip
    assert caught.value.limit == "http_field_bytes"


def test_the_fields_of_a_request_are_immutable(isolate: bool) -> None:
    body = """
      (call $get) (i32.store8 (i32.const 600) (i32.const 120))
      (call $append (call $headers (i32.load (i32.const 480))) (i32.const 600) (i32.const 1) (i32.const 600)
        (i32.const 1) (i32.const 400))
      (i32.add (i32.mul (i32.load8_u (i32.const 400)) (i32.const 10)) (i32.load8_u (i32.const 404)))"""
    assert go(isolate, 1, body) == 12  # an error, and of its cases the one of number 2


def test_a_body_that_is_never_read_is_received_in_part(isolate: bool) -> None:
    """The server can send no more than the buffers of both sides hold, and learns of the end with the sandbox."""
    sent, ended = [0], threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                sent[0] += connection.send(bytes(65536))
        finally:
            ended.set()

    with raw_server(serve) as port:
        body = "(call $get) (drop (call $sent)) (call $take) (i32.load (i32.const 488))"
        assert go(isolate, port, body)
        assert ended.wait(20)
    assert sent[0] < 32 << 20


@pytest.mark.parametrize("ended", [False, True], ids=["contents", "trailers"])
def test_a_request_without_its_end_reaches_the_server_without_an_end(isolate: bool, ended: bool) -> None:
    """A guest that never ends its contents, or never writes the trailers, waits until the deadline."""
    made = Recorded()
    drop = "(call $drop-writer (call $high (local.get $x)))" if ended else ""
    with made.running() as port:
        with pytest.raises(DeadlineExceeded):
            go(isolate, port, f"{STREAMED} {drop} (call $outcome (i32.load (i32.const 484)))", timeout="1s")
        assert made.wait()
    assert b"\r\n\r\n5\r\n127.0\r\n" in made.received
    assert not made.received.endswith(b"0\r\n\r\n")


def test_a_guest_that_ends_early_leaves_no_complete_request(isolate: bool) -> None:
    """Trailers written before the contents have ended must not end them when the sandbox is closed, nor a trap."""
    early = """
      (i64.store (i32.const 200) (i64.const 0)) (i64.store (i32.const 208) (i64.const 0))
      (drop (call $write-trailers (call $high (local.get $w)) (i32.const 200)))"""
    for end in ("(i32.const 7)", "(unreachable)"):
        made = Recorded()
        with made.running() as port:
            with contextlib.suppress(GuestTrap):
                assert go(isolate, port, f"{STREAMED} {early} {end}") == 7
            assert made.wait()
        assert not made.received.endswith(b"0\r\n\r\n")
    made = Recorded(b"HTTP/1.1 204 None\r\n\r\n")
    with made.running() as port:
        whole = f"{STREAMED} {early} (call $drop-writer (call $high (local.get $x)))"
        assert go(isolate, port, f"{whole} (call $outcome (i32.load (i32.const 484)))") == 0
        assert made.wait()
    assert made.received.endswith(b"\r\n0\r\n\r\n")


def test_a_request_that_is_dropped_ends_its_futures(isolate: bool) -> None:
    dropped = """
      (local.set $w (call $trailers)) (local.set $x (call $body))
      (call $make (call $low (local.get $x)) (call $low (local.get $w)))
      (call $drop-request (i32.load (i32.const 480)))"""
    assert go(isolate, 1, f"{dropped} (call $outcome (i32.load (i32.const 484)))") == code("internal-error")
    write = "(call $write (call $high (local.get $x)) (i32.const 1024) (i32.const 5))"
    assert go(isolate, 1, f"{dropped} {write}") == 1  # no byte, and the other end is gone


def test_a_refused_request_ends_its_futures(isolate: bool) -> None:
    """Without the grant, the contents are closed and both the call and the transmission have the same error."""
    body = """
      (local.set $w (call $trailers)) (local.set $x (call $body))
      (call $make (call $low (local.get $x)) (call $low (local.get $w)))
      (local.set $a (call $sent)) (local.set $b (call $outcome (i32.load (i32.const 484))))
      (local.set $c (call $write (call $high (local.get $x)) (i32.const 1024) (i32.const 5)))
      (i32.add (i32.mul (i32.const 1000) (i32.eq (local.get $a) (local.get $b)))
        (i32.add (i32.mul (i32.const 2000) (local.get $c)) (local.get $a)))"""
    assert go(isolate, 1, body, granted=False) == 3000 + code("HTTP-request-denied")


def test_a_wait_for_a_request_that_was_not_sent_is_a_deadlock(isolate: bool) -> None:
    with pytest.raises(GuestTrap, match="deadlock"):
        go(isolate, 1, "(call $get) (call $outcome (i32.load (i32.const 484)))")


def test_a_call_that_is_cancelled_ends_its_exchange(isolate: bool) -> None:
    """More calls than may be under way at once, each given up before its response: the server sees each end."""
    made = Recorded()
    with made.running() as port:
        body = """
          (loop $l
            (call $get)
            (local.set $a (call $send-async (i32.load (i32.const 480)) (i32.const 0)))
            (if (i32.ne (i32.and (local.get $a) (i32.const 15)) (i32.const 1)) (then (return (i32.const 77))))
            (local.set $a (i32.shr_u (local.get $a) (i32.const 4)))
            (if (i32.ne (call $subtask-cancel (local.get $a)) (i32.const 4)) (then (return (i32.const 78))))
            (call $subtask-drop (local.get $a))
            (if (i32.ne (call $outcome (i32.load (i32.const 484))) (i32.const 107)) (then (return (i32.const 79))))
            (br_if $l (i32.lt_u (local.tee $b (i32.add (local.get $b) (i32.const 1))) (i32.const 5))))
          (local.get $b)"""
        assert go(isolate, port, body, http_requests=1) == 5
        assert code("connection-terminated") == 107


def test_a_cancelled_call_closes_the_contents(isolate: bool) -> None:
    made = Recorded()
    with made.running() as port:
        body = f"""{STREAMED}
          (drop (call $subtask-cancel (i32.shr_u (local.get $a) (i32.const 4))))
          (call $write (call $high (local.get $x)) (i32.const 1024) (i32.const 5))"""
        assert go(isolate, port, body) == 1
        assert made.wait()


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("again", [
    "(call $take) (call $take)",
    "(drop (call $sent))",
    "(call $take) (call $drop-response (i32.load (i32.const 8)))",
    "(call $drop-response (i32.load (i32.const 8))) (drop (call $status (i32.load (i32.const 8))))",
    "(call $drop-request (i32.load (i32.const 480)))",
])  # fmt: skip
def test_what_was_consumed_cannot_be_used_again(isolate: bool, again: str) -> None:
    with server() as port, pytest.raises(GuestTrap, match="handle"):
        go(isolate, port, f"(call $get) (drop (call $sent)) {again} (i32.const 0)")


@pytest.mark.parametrize("dropped", [True, False])
def test_a_response_that_is_dropped_makes_room_for_another(isolate: bool, dropped: bool) -> None:
    drop = "(call $drop-response (i32.load (i32.const 8)))" if dropped else ""
    with Recorded(PARTIAL).running() as port:
        body = f"(call $get) (drop (call $sent)) {drop} (call $get) (call $sent)"
        expected = 0 if dropped else code("connection-limit-reached")
        assert go(isolate, port, body, http_requests=1) == expected


def test_a_body_that_is_given_up_is_followed_by_its_trailers(isolate: bool) -> None:
    with server() as port:
        body = """(call $get) (drop (call $sent)) (call $take) (call $drop-reader (i32.load (i32.const 488)))
          (call $end (i32.load (i32.const 492)))"""
        assert go(isolate, port, body) == 1  # some trailers


def test_a_body_that_breaks_off_ends_with_an_error(isolate: bool) -> None:
    """The bytes before the break arrive; the stream ends, and the future of the trailers says why."""
    with Recorded(PARTIAL, then_close=True).running() as port:
        body = """
          (call $get) (drop (call $sent)) (call $take)
          (local.set $d (i32.const 400))
          (loop $l
            (local.set $a (call $read (i32.load (i32.const 488)) (local.get $d) (i32.const 100)))
            (local.set $d (i32.add (local.get $d) (i32.shr_u (local.get $a) (i32.const 4))))
            (br_if $l (i32.eqz (i32.and (local.get $a) (i32.const 15)))))
          (i32.add (i32.mul (i32.const 1000) (i32.sub (local.get $d) (i32.const 400)))
            (call $end (i32.load (i32.const 492))))"""
        assert go(isolate, port, body) == 10_000 + code("HTTP-response-incomplete")


@pytest.mark.parametrize("failed", [False, True])
def test_a_guest_that_fails_to_handle_a_response_ends_its_exchange(isolate: bool, failed: bool) -> None:
    """The server has more to send, but the guest says in `res` that it failed: its next read is the end."""
    with Recorded(PARTIAL).running() as port:
        body = f"""
          (call $get) (drop (call $sent)) (local.set $w (call $done))
          (call $consume (i32.load (i32.const 8)) (call $low (local.get $w)) (i32.const 488))
          (i32.store8 (i32.const 160) (i32.const {int(failed)})) (i32.store8 (i32.const 168) (i32.const 36))
          (drop (call $write-done (call $high (local.get $w)) (i32.const 160)))
          (drop (call $read (i32.load (i32.const 488)) (i32.const 2048) (i32.const 10)))
          {"(call $read (i32.load (i32.const 488)) (i32.const 2048) (i32.const 10))" if failed else "(i32.const 7)"}"""
        assert go(isolate, port, body) == (1 if failed else 7)


def test_a_server_that_goes_away_ends_the_transmission(isolate: bool) -> None:
    """A guest that writes nothing more learns of it by the future: the host watches the connection meanwhile."""
    with Recorded(then_close=True).running() as port:
        outcome = go(isolate, port, f"{STREAMED} (call $outcome (i32.load (i32.const 484)))")
        assert outcome in (code("HTTP-response-incomplete"), code("connection-terminated"))


@pytest.mark.parametrize(("written", "expected"), [(0, 0), (1, 106)], ids=["value", "error"])
def test_a_guest_that_consumes_its_own_request_says_how_that_ended(isolate: bool, written: int, expected: int) -> None:
    body = f"""
      (call $get) (local.set $w (call $done))
      (call $consume-request (i32.load (i32.const 480)) (call $low (local.get $w)) (i32.const 488))
      (i32.store8 (i32.const 160) (i32.const {written})) (i32.store8 (i32.const 168) (i32.const 6))
      (drop (call $write-done (call $high (local.get $w)) (i32.const 160)))
      (call $outcome (i32.load (i32.const 484)))"""
    assert go(isolate, 1, body) == expected


def test_requests_that_are_never_sent_count_as_handles(isolate: bool) -> None:
    with pytest.raises(QuotaExceeded) as caught:
        go(isolate, 1, "(loop $l (call $get) (br $l)) (unreachable)", handles=1000)
    assert caught.value.limit == "handles"


def test_bytes_of_streams_count_on_the_network(isolate: bool) -> None:
    body = "(call $get) (drop (call $sent)) (call $take) (call $drop-reader (i32.load (i32.const 488))) (i32.const 5)"
    with server() as port:
        assert go(isolate, port, body, network_bytes=1000) == 5
        with pytest.raises(QuotaExceeded) as caught:
            go(isolate, port, body, network_bytes=100)
    assert caught.value.limit == "network_bytes"
