"""Look names up on a bounded number of threads for the whole process.

The system's resolver cannot be interrupted: a look-up that nobody waits for any more keeps its thread until the
resolver answers. So the threads belong to the process, not to a sandbox; look-ups beyond them wait in line, in the
order in which they were asked, and a look-up that leaves the line costs nothing.
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
"""Gives the addresses of a name, in order of preference, and may add the names that it is an alias of, which are judged
too; raises ``socket.gaierror``."""
Deliver = Callable[[list[str], "OSError | None"], None]
"""Takes the addresses of a name, or the error of its look-up. Called on a resolver thread."""


def system_resolver(name: str) -> list[str]:
    """Ask the system, as any program would; the canonical name, which ends a chain of CNAMEs, comes last."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=socket.AI_CANONNAME)
    answers = [str(entry[4][0]).partition("%")[0] for entry in found]
    return list(dict.fromkeys([*answers, *(entry[3] for entry in found if entry[3])]))


class Question:
    """One name to look up, and where its answer goes."""

    __slots__ = ("_deliver", "_resolver", "name")

    def __init__(self, name: str, resolver: Resolver, deliver: Deliver) -> None:
        self.name, self._resolver, self._deliver = name, resolver, deliver

    def answer(self) -> None:
        """Ask the resolver, which may take any time, and deliver the result."""
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
    """At most ``limit`` threads that answer questions. A thread ends when the line is empty."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.reset()

    def reset(self) -> None:
        """Forget threads and questions: a fork of the process has neither."""
        # Reentrant: the garbage collector may close a sandbox, which withdraws its questions, at any point.
        self._lock = threading.RLock()
        self._line: deque[Question] = deque()
        self._threads = 0

    def ask(self, name: str, resolver: Resolver, deliver: Deliver) -> Question:
        """Put a question in line. Raise ``OSError`` when no thread can be started to answer it."""
        question = Question(name, resolver, deliver)
        with self._lock:
            self._line.append(question)
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
            # With other threads at work the question is answered by one of those, later.
            if alone and self.withdraw(question):
                raise OSError(str(error)) from None

    def withdraw(self, question: Question) -> bool:
        """Take a question out of the line; return whether it was still there."""
        with self._lock:
            if question not in self._line:
                return False
            self._line.remove(question)
            return True

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._line:
                    self._threads -= 1
                    return
                question = self._line.popleft()
            question.answer()
            del question  # while this thread waits for the lock it keeps no sandbox alive


resolvers = ResolverPool(RESOLVER_THREADS)
"""The resolver threads of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=resolvers.reset)
