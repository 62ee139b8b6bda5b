"""The token of a store: the thread that holds it may enter the guest, and no other thread may."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident

from aegis.errors import SandboxStateError

__all__ = ["TokenHolder", "busy_error"]


def busy_error() -> SandboxStateError:
    """Return the error of a thread that wants a store while another thread is in it."""
    return SandboxStateError("the sandbox is busy: another thread has a call under way in it", state="busy")


class TokenHolder:
    """The part that stores of all backends share.

    ``token`` is a list with one element while the store is free: ``pop`` is atomic, and costs less than a lock.
    """

    token: list[None]
    owner = 0
    """The thread whose host function the guest is calling, 0 for none."""

    def take_token(self) -> bool:
        """Take the token, so that no other thread can enter the instance; return whether it was free."""
        try:
            self.token.pop()
        except IndexError:
            return False
        except BaseException:  # a signal handler raised immediately after the token was taken
            self.token.append(None)
            raise
        return True

    def in_call(self) -> bool:
        """Return whether any thread has a call in progress."""
        return not self.token

    def entered_here(self) -> bool:
        """Return whether the current thread is inside a host function of this guest."""
        return self.owner == get_ident()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Prevent calls and ``close`` by other threads inside the ``with`` block.

        Inside a host function, the call already holds the token. Raise ``SandboxStateError`` if another thread has it.
        """
        if self.entered_here():
            yield
            return
        if not self.take_token():
            raise busy_error()
        try:
            yield
        finally:
            self.token.append(None)
