"""What a worker may still do, and what became of each layer: plain data."""

from __future__ import annotations

import errno
import os

from aegis.support.lean import NamedTuple, dataclass

__all__ = ["Confinement", "Layer", "Situation", "Unavailable", "describe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """What one worker may still do. The parent derives it from the policy's grants; it crosses as plain data."""

    data_bytes: int | None = None
    """Private writable memory in total, code and stacks of threads included; ``None``: unlimited (RLIMIT_DATA)."""
    cpu_seconds: int | None = None
    """CPU time in total: SIGXCPU then, SIGKILL a second later; ``None``: unlimited (RLIMIT_CPU)."""
    open_files: int = 64
    """One more than the highest descriptor number that may come to be (RLIMIT_NOFILE)."""
    file_bytes: int | None = None
    """The size that a file may grow to (RLIMIT_FSIZE); ``None``: ``data_bytes``, for no file is granted for writing.

    A memfd counts as a file, and the engine keeps a module's initial memory in one: leave room for it.
    """
    keep_fds: tuple[int, ...] = ()
    """Descriptors that stay open besides the granted ones. Of 0, 1 and 2 those not named become ``/dev/null``."""
    read_fds: tuple[int, ...] = ()
    """Open directories and files granted for reading, with everything beneath them."""
    write_fds: tuple[int, ...] = ()
    """Open directories and files granted for reading and writing, with everything beneath them."""
    network: bool = False
    """Whether the parent hands over sockets, which it made and connects. The process makes and connects none itself."""
    listens: bool = False
    """Whether connections may be accepted on such a socket."""
    threads: bool = True
    """Whether threads may start."""

    @property
    def kept(self) -> set[int]:
        """Every descriptor that stays open."""
        return {*self.keep_fds, *self.read_fds, *self.write_fds}

    @property
    def reads(self) -> bool:
        """Whether anything may be opened at all."""
        return bool(self.read_fds or self.write_fds)


class Layer(NamedTuple):
    """One layer of the confinement; ``detail`` says in a line what it does, or why it is missing."""

    name: str
    active: bool
    detail: str


@dataclass(slots=True)
class Situation:
    """What one layer tells the next about this process."""

    other_threads: int
    """How many threads ran besides the one that confines: most layers do not reach them."""
    own_users: bool = False
    """Whether the process entered a user namespace of its own."""
    bounded: bool = False
    """Whether the bounding set of capabilities is what it should be already."""

    def alone(self, what: str) -> None:
        """Raise :class:`Unavailable` where other threads run, which ``what`` befalls."""
        if self.other_threads:
            raise Unavailable(f"{self.other_threads} other threads ran already, and {what}")


class Unavailable(Exception):
    """This system cannot apply the layer; the text says why."""


def describe(error: OSError) -> str:
    """Return the name and text of an error number."""
    number = error.errno or 0
    return f"{errno.errorcode.get(number, number)}: {os.strerror(number)}"
