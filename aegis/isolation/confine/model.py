"""Plain data: the confinement that a worker applies, and the outcome of each layer."""

from __future__ import annotations

import errno
import os

from aegis.support.lean import NamedTuple, dataclass

__all__ = ["Confinement", "Layer", "LayerUnavailable", "Situation", "describe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """The access that one worker keeps. The parent derives it from the policy and sends it as plain data."""

    data_bytes: int | None = None
    """Private writable memory in total, including code and thread stacks (RLIMIT_DATA); ``None``: unlimited."""
    cpu_seconds: int | None = None
    """CPU time in total (RLIMIT_CPU): the kernel sends SIGXCPU, and SIGKILL one second later; ``None``: unlimited."""
    open_files: int = 64
    """One more than the highest descriptor number that may be allocated (RLIMIT_NOFILE)."""
    file_bytes: int | None = None
    """Maximum size of a file in bytes (RLIMIT_FSIZE); ``None``: ``data_bytes``, used if no file may be written.

    A memfd counts as a file, and the engine stores a module's initial memory in one: allow for it.
    """
    keep_fds: tuple[int, ...] = ()
    """Descriptors that stay open in addition to the granted ones. Any of 0, 1 and 2 not named becomes ``/dev/null``."""
    read_fds: tuple[int, ...] = ()
    """Open directories and files granted for reading, with everything beneath them."""
    write_fds: tuple[int, ...] = ()
    """Open directories and files granted for reading and writing, with everything beneath them."""
    network: bool = False
    """Whether the worker uses sockets. The parent creates, connects and passes them; the worker cannot."""
    listens: bool = False
    """Whether the worker may accept connections on such a socket."""
    threads: bool = True
    """Whether the worker may start threads."""

    @property
    def kept(self) -> set[int]:
        """Every descriptor that stays open."""
        return {*self.keep_fds, *self.read_fds, *self.write_fds}

    @property
    def reads(self) -> bool:
        """Whether the worker may open files at all."""
        return bool(self.read_fds or self.write_fds)


class Layer(NamedTuple):
    """The outcome of one layer; ``detail`` is one line on its effect, or on the reason why it is missing."""

    name: str
    active: bool
    detail: str


@dataclass(slots=True)
class Situation:
    """The state of this process that layers share."""

    other_threads: int
    """Number of other threads when confinement began; most layers do not affect them."""
    own_users: bool = False
    """Whether the process entered its own user namespace."""
    bounded: bool = False
    """Whether the capability bounding set has already been reduced."""

    def require_single_thread(self, consequence: str) -> None:
        """Raise :class:`LayerUnavailable` if other threads exist; ``consequence`` ends the message."""
        if self.other_threads:
            raise LayerUnavailable(f"{self.other_threads} other threads ran already, and {consequence}")


class LayerUnavailable(Exception):
    """Raised if this system cannot apply a layer; the message says why."""


def describe(error: OSError) -> str:
    """Return the symbol and message of an error number, such as ``EPERM: Operation not permitted``."""
    number = error.errno or 0
    return f"{errno.errorcode.get(number, number)}: {os.strerror(number)}"
