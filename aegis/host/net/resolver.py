"""Look names up on a bounded number of threads for the whole process.

The system's resolver cannot be interrupted: an abandoned look-up keeps its thread until the resolver answers. So the
threads belong to the process, not to a sandbox. Further look-ups wait in a queue, first come first served, and a
look-up that is withdrawn from the queue costs nothing.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from collections.abc import Callable

__all__ = ["RESOLVER_THREADS", "Deliver", "Question", "Resolver", "ResolverPool", "resolvers", "system_resolver"]

RESOLVER_THREADS = 8
"""Threads of this process that wait for the system's resolver at the same time. A sandbox may use half of them."""

Resolver = Callable[[str], list[str]]
"""Returns the addresses of a name in order of preference, and may add the names that it is an alias of, which are
judged too; raises ``socket.gaierror``."""
Deliver = Callable[[list[str], "OSError | None"], None]
"""Receives the addresses of a name, or the error of its look-up, on a resolver thread."""


def system_resolver(name: str) -> list[str]:
    """Call the system's resolver; the canonical name, the end of a chain of CNAMEs, comes last."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=socket.AI_CANONNAME)
    answers = [str(entry[4][0]).partition("%")[0] for entry in found]
    return list(dict.fromkeys([*answers, *(entry[3] for entry in found if entry[3])]))


class Question:
    """One name to look up, with the receiver of the answer."""

    __slots__ = ("_deliver", "_resolver", "name")

    def __init__(self, name: str, resolver: Resolver, deliver: Deliver) -> None:
        self.name, self._resolver, self._deliver = name, resolver, deliver

    def answer(self) -> None:
        """Call the resolver, which may block for any time, and deliver the result."""
        addresses: list[str] = []
        failure: OSError | None = None
        try:
            addresses = self._resolver(self.name)
        except OSError as error:
            failure = error
        except Exception:
            failure = socket.gaierror(socket.EAI_FAIL, "the resolver failed")
        self._deliver(addresses, failure)


class ResolverPool:
    """At most ``limit`` threads that answer questions. A thread ends when the queue is empty."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.reset()

    def reset(self) -> None:
        """Forget threads and questions, neither of which exists in the child after a fork."""
        # Reentrant: the garbage collector may close a sandbox, which withdraws its questions, at any point.
        self._lock = threading.RLock()
        self._queue: deque[Question] = deque()
        self._threads = 0

    def ask(self, name: str, resolver: Resolver, deliver: Deliver) -> Question:
        """Queue a question. Raise ``OSError`` when no thread can be started to answer it."""
        question = Question(name, resolver, deliver)
        with self._lock:
            self._queue.append(question)
            starts = self._threads < self._limit
            self._threads += starts
        if starts:
            self._start(question)
        return question

    def _start(self, question: Question) -> None:
        try:
            threading.Thread(target=self._work, name="aegis-resolver", daemon=True).start()
        except RuntimeError as error:
            with self._lock:
                self._threads -= 1
                alone = not self._threads
            # If other threads run, one of those answers the question later.
            if alone and self.withdraw(question):
                raise OSError(str(error)) from None

    def withdraw(self, question: Question) -> bool:
        """Remove a question from the queue; return whether it was still there."""
        with self._lock:
            if question not in self._queue:
                return False
            self._queue.remove(question)
            return True

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    self._threads -= 1
                    return
                question = self._queue.popleft()
            question.answer()
            del question  # this thread must keep no sandbox alive while it waits for the lock


resolvers = ResolverPool(RESOLVER_THREADS)
"""The resolver threads of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=resolvers.reset)
