"""An exception that a signal handler raises while a thread starts is raised unchanged, whatever ``threading`` does."""

from __future__ import annotations

import threading

import pytest

from aegis.engine.threads.guest_thread import start_thread


class Interrupted(threading.Thread):
    """A thread whose start is interrupted while the wait for it has released its lock."""

    def start(self) -> None:
        super().start()
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise RuntimeError("release unlocked lock")  # noqa: B904 - as a `with` block does


def test_an_interruption_of_a_start_is_raised_as_such() -> None:
    thread = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        start_thread(thread)
    thread.join()


def test_a_thread_that_cannot_be_started_says_so() -> None:
    thread = threading.Thread()
    start_thread(thread)
    thread.join()
    with pytest.raises(RuntimeError, match="once"):
        start_thread(thread)
