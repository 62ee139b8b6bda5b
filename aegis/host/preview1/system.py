"""Arguments, environment, clocks, random numbers, exit, and the functions of sockets, of which there are none."""

from __future__ import annotations

from functools import partial

from aegis.errors import GuestExit
from aegis.host.denials import reading
from aegis.host.entropy import CHUNK_BYTES
from aegis.host.preview1.abi import U32, Errno, Refused
from aegis.host.preview1.context import Preview1Context
from aegis.support.lean import NoReturn

__all__ = ["System"]


class System(Preview1Context):
    """The functions that concern neither files nor paths."""

    def args_sizes_get(self, count: int, size: int) -> None:
        self._sizes(self.grants.args, count, size)

    def args_get(self, pointers: int, buffer: int) -> None:
        self._strings(self.grants.args, pointers, buffer)

    def environ_sizes_get(self, count: int, size: int) -> None:
        self._sizes(self._environment(), count, size)

    def environ_get(self, pointers: int, buffer: int) -> None:
        self._strings(self._environment(), pointers, buffer)

    def _environment(self) -> tuple[bytes, ...]:
        return tuple([f"{name}={value}".encode() for name, value in self.grants.environment])

    def _sizes(self, strings: tuple[bytes, ...], count: int, size: int) -> None:
        self.put_u32(count, len(strings))
        self.put_u32(size, sum(map(len, strings)) + len(strings))

    def _strings(self, strings: tuple[bytes, ...], pointers: int, buffer: int) -> None:
        addresses = []
        at = buffer
        for string in strings:
            addresses.append(at & 0xFFFF_FFFF)
            at += len(string) + 1
        self.memory.write(buffer, b"\0".join((*strings, b"")))
        self.memory.write(pointers, b"".join(map(U32.pack, addresses)))

    # -- clocks and randomness -----------------------------------------------------------------

    def clock_res_get(self, clock: int, out: int) -> None:
        _known_clock(clock)
        self.put_u64(out, self.grants.clocks.resolution)

    def clock_time_get(self, clock: int, precision: int, out: int) -> None:
        _known_clock(clock)
        clocks = self.grants.clocks
        self.put_u64(out, reading(self.scope, clocks.realtime if clock == 0 else clocks.monotonic))

    def random_get(self, buffer: int, length: int) -> None:
        if buffer + length > self.memory.size():
            raise Refused(Errno.FAULT)
        for at in range(0, length, CHUNK_BYTES):
            self.scope.remaining()
            piece = partial(self.grants.random, min(CHUNK_BYTES, length - at))
            self.memory.write(buffer + at, reading(self.scope, piece))

    # -- the process ---------------------------------------------------------------------------

    def proc_exit(self, code: int) -> None:
        raise GuestExit(code)

    def proc_raise(self, signal: int) -> None:
        raise Refused(Errno.NOTSUP)

    def sched_yield(self) -> None:
        self.scope.remaining()

    # -- sockets: preview 1 can only use those that its host opened, and Aegis opens none -------------

    def sock_accept(self, fd: int, flags: int, out: int) -> None:
        self._no_socket(fd)

    def sock_recv(self, fd: int, data: int, count: int, flags: int, size: int, out_flags: int) -> None:
        self._no_socket(fd)

    def sock_send(self, fd: int, data: int, count: int, flags: int, out: int) -> None:
        self._no_socket(fd)

    def sock_shutdown(self, fd: int, how: int) -> None:
        self._no_socket(fd)

    def _no_socket(self, fd: int) -> NoReturn:
        self.table.get(fd)
        raise Refused(Errno.NOTSOCK)


def _known_clock(clock: int) -> None:
    """Raise for any clock but real and monotonic time: those of process and thread would reveal the host's speed."""
    if clock > 1:
        raise Refused(Errno.BADF if clock < 4 else Errno.INVAL)
