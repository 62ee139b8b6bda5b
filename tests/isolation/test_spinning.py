"""Receiving on a channel: a side spins while answers come soon, blocks otherwise, and loses nothing either way."""

from __future__ import annotations

import os
import socket
import threading
from typing import Any

import pytest

from aegis.isolation.protocol import spinning
from aegis.isolation.protocol.spinning import spinning_receive


class Counted:
    """The receiving part of a socket, which counts attempts and answers the attempt with the number ``at``."""

    def __init__(self, at: int) -> None:
        self.at, self.tried, self.blocked = at, 0, 0

    def recv(self, size: int, flags: int = 0) -> bytes:
        if not flags:
            self.blocked += 1
            return b"late"
        self.tried += 1
        if self.tried % 1000 != self.at:
            raise BlockingIOError
        return b"soon"


@pytest.fixture(autouse=True)
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spinning, "_processors", lambda: 2)


def receiving(end: Any) -> Any:
    return spinning_receive(end)


def test_an_answer_that_comes_soon_is_received_without_blocking() -> None:
    end = Counted(at=7)
    assert receiving(end)(10) == b"soon"
    assert (end.tried, end.blocked) == (7, 0)


def test_after_late_answers_a_side_blocks_at_once_and_spins_again_later() -> None:
    end = Counted(at=-1)
    receive = receiving(end)
    for _ in range(4):
        assert receive(10) == b"late"
    spins = end.tried
    for _ in range(28):
        assert receive(10) == b"late"
    assert end.tried == spins
    for _ in range(64):
        receive(10)
    assert spins < end.tried <= spins * 2


def test_an_answer_that_comes_soon_again_ends_the_blocking() -> None:
    end = Counted(at=-1)
    receive = receiving(end)
    for _ in range(10):
        receive(10)
    end.at = (end.tried + 1) % 1000
    while receive(10) == b"late":
        pass
    tried = end.tried
    end.at = (tried + 1) % 1000
    assert receive(10) == b"soon"


def test_on_one_processor_nothing_spins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spinning, "_processors", lambda: 1)
    end = Counted(at=1)
    assert receiving(end)(10) == b"late"
    assert end.tried == 0


def test_the_number_of_processors_is_that_of_the_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3}, raising=False)
    assert spinning._processors() == 1
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert spinning._processors() == 1


def test_bytes_arrive_whole_and_in_order_and_the_end_is_an_end() -> None:
    near, far = socket.socketpair()
    sent = [bytes([n % 256]) * (n % 300 + 1) for n in range(500)]

    def send() -> None:
        for piece in sent:
            far.sendall(piece)
        far.close()

    thread = threading.Thread(target=send)
    thread.start()
    receive, data = receiving(near), b""
    while piece := receive(100):
        data += piece
    thread.join()
    near.close()
    assert data == b"".join(sent)


def test_errors_of_the_socket_are_raised() -> None:
    near, far = socket.socketpair()
    receive = receiving(near)
    near.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        receive(10)
    far.close()
