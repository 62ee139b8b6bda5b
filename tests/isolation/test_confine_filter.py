"""The seccomp filter, executed by an interpreter in the test: the verdict for every relevant call and argument."""

from __future__ import annotations

import errno
import platform
import re
import struct
from pathlib import Path
from typing import Any

import pytest

from aegis.isolation.confine import Confinement
from aegis.isolation.confine.bpf import ALLOW, KILL, MAX_INSTRUCTIONS, Assembler, fail
from aegis.isolation.confine.filter import AUDIT_ARCH, allowed, program
from aegis.isolation.confine.kernel import MACHINES
from aegis.isolation.confine.numbers import NEWEST, NUMBERS
from aegis.isolation.confine.seccomp import filter_for
from tests.isolation.attacks import NUMBERS as ATTACKS

PROCESS = 4242
DENIED, UNKNOWN = fail(errno.EPERM), fail(errno.ENOSYS)
NETWORK = Confinement(network=True, listens=True)
every_machine = pytest.mark.parametrize("machine", MACHINES)


def interpret(code: bytes, data: bytes) -> int:
    """Run a program on one ``struct seccomp_data``; an access out of bounds is an error."""
    instructions = list(struct.iter_unpack("=HBBI", code))
    accumulator, at = 0, 0
    while True:
        operation, then, otherwise, constant = instructions[at]
        at += 1
        if operation == 0x06:
            return int(constant)
        if operation == 0x20:
            assert constant % 4 == 0
            (accumulator,) = struct.unpack_from("=I", data, constant)
        elif operation == 0x54:
            accumulator &= constant
        else:
            true = {0x15: accumulator == constant, 0x25: accumulator > constant, 0x35: accumulator >= constant}
            at += then if true[operation] else otherwise


def verdict(
    wanted: Confinement, machine: str, name: str | int, *arguments: int, arch: str | int | None = None
) -> int | None:
    """Return the verdict on a call by name or number; ``None`` if the machine does not have the call."""
    number = (
        name if isinstance(name, int) else NUMBERS.get(name, ATTACKS.get(name, (None, None)))[MACHINES.index(machine)]
    )
    if number is None:
        return None
    called = arch if isinstance(arch, int) else AUDIT_ARCH[arch or machine]
    padded = [a & 0xFFFFFFFFFFFFFFFF for a in arguments] + [0] * (6 - len(arguments))
    data = struct.pack("=IIQ6Q", number, called, 0xDEAD_BEEF_0000, *padded)
    return interpret(program(allowed(wanted, PROCESS), machine), data)


@every_machine
@pytest.mark.parametrize(
    "name", ["read", "write", "mmap", "mprotect", "futex", "memfd_create", "eventfd2", "exit_group"]
)
def test_system_calls_that_the_engine_needs_are_allowed(machine: str, name: str) -> None:
    assert verdict(Confinement(), machine, name) == ALLOW


@every_machine
@pytest.mark.parametrize("name", sorted(set(ATTACKS) - {"clone3", "no_such_call", "tgkill"}))
def test_unneeded_system_calls_are_denied(machine: str, name: str) -> None:
    for wanted in (Confinement(), NETWORK, Confinement(write_fds=(5,), read_fds=(6,), network=True)):
        assert verdict(wanted, machine, name) in (DENIED, None)


def test_programs_are_started_on_neither_machine() -> None:
    for number in (57, 58, 59, 62, 322):  # fork, vfork, execve, kill, execveat
        assert verdict(NETWORK, "x86_64", number) == DENIED
    for number in (221, 129, 281):  # execve, kill, execveat
        assert verdict(NETWORK, "aarch64", number) == DENIED


@every_machine
def test_another_architecture_is_killed(machine: str) -> None:
    other = MACHINES[1 - MACHINES.index(machine)]
    assert verdict(Confinement(), machine, "read", arch=other) == KILL
    assert verdict(Confinement(), machine, "read", arch=0x40000003) == KILL  # i386
    assert verdict(Confinement(), machine, "read", arch=0x40000028) == KILL  # 32-bit ARM


def test_the_second_abi_of_x86_is_killed() -> None:
    for number in (0x40000000, 0x40000000 | 520, 0xFFFFFFFF):
        assert verdict(Confinement(), "x86_64", number) == KILL


@every_machine
def test_system_calls_newer_than_the_list_do_not_exist(machine: str) -> None:
    assert verdict(Confinement(), machine, NEWEST) == DENIED
    assert verdict(Confinement(), machine, NEWEST + 1) == UNKNOWN
    assert verdict(Confinement(), machine, 0x3FFFFFFF) == UNKNOWN
    assert verdict(Confinement(), machine, "clone3") == UNKNOWN


THREAD = 0x3D0F00


@every_machine
@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (THREAD, ALLOW),
        (THREAD | 0x400000, ALLOW),  # CLONE_DETACHED, musl
        (0x1200011, DENIED),  # fork
        (0x4111, DENIED),  # vfork
        (0x10000, DENIED),  # CLONE_THREAD alone
        (THREAD | 0x10000000, DENIED),  # a user namespace
        (THREAD | 0x20000, DENIED),  # a mount namespace
        (THREAD | 0x1000, DENIED),  # a pidfd
        (THREAD & ~0x800, DENIED),  # handlers not shared
        (THREAD | 0x2000, DENIED),  # traced
        (THREAD | 1 << 33, DENIED),  # beyond 32 bits
    ],
)
def test_clone_makes_threads_and_nothing_else(machine: str, flags: int, expected: int) -> None:
    assert verdict(Confinement(), machine, "clone", flags) == expected
    assert verdict(Confinement(threads=False), machine, "clone", flags) == DENIED


SOCKETS = [
    (2, 1, 0),
    (2, 2, 0),
    (10, 1, 6),
    (10, 2 | 0x800, 17),
    (1, 1, 0),
    (2, 1, 262),
    (16, 3, 0),
    (17, 3, 0),
    (40, 1, 0),
]


@every_machine
@pytest.mark.parametrize("arguments", SOCKETS)
def test_no_grant_lets_a_worker_make_a_socket_or_use_one_beyond_reading_and_writing(
    machine: str, arguments: tuple[int, ...]
) -> None:
    for wanted in (Confinement(), NETWORK, Confinement(write_fds=(5,), network=True, listens=True)):
        assert verdict(wanted, machine, "socket", *arguments) == DENIED
        for name in ("connect", "bind", "listen", "sendmmsg", "recvmmsg", "socketpair"):
            assert verdict(wanted, machine, name, 5, 0x1000, 16) == DENIED


@every_machine
@pytest.mark.parametrize(("name", "flags"), [("sendto", 3), ("sendmsg", 2)])
def test_nothing_connects_by_sending(machine: str, name: str, flags: int) -> None:
    plain, fast = [0] * 6, [0] * 6
    plain[flags], fast[flags] = 0x4000, 0x4000 | 0x20000000  # MSG_NOSIGNAL, MSG_FASTOPEN
    for wanted in (Confinement(write_fds=(5,)), Confinement(write_fds=(5,), network=True, listens=True)):
        assert verdict(wanted, machine, name, *plain) == ALLOW
        assert verdict(wanted, machine, name, *fast) == DENIED


@every_machine
@pytest.mark.parametrize("address", [0x1000, 1 << 32, (1 << 64) - 1])
def test_nothing_is_sent_to_an_address(machine: str, address: int) -> None:
    assert verdict(NETWORK, machine, "sendto", 5, 0x1000, 10, 0, 0, 0) == ALLOW
    assert verdict(NETWORK, machine, "sendto", 5, 0x1000, 10, 0, address, 16) == DENIED


CONDITIONS: list[tuple[str, tuple[int, ...], int]] = [
    ("tgkill", (PROCESS, 1, 6), ALLOW),
    ("tgkill", (PROCESS + 1, 1, 6), DENIED),
    ("tgkill", (1, 1, 0), DENIED),
    ("prctl", (15,), ALLOW),  # PR_SET_NAME
    ("prctl", (4, 1), DENIED),  # PR_SET_DUMPABLE
    ("prctl", (1, 0), DENIED),  # PR_SET_PDEATHSIG
    ("prctl", (22, 2), DENIED),  # PR_SET_SECCOMP
    ("prctl", (35,), DENIED),  # PR_SET_MM
    ("prctl", (0x59616D61, -1), DENIED),  # PR_SET_PTRACER
    ("prlimit64", (0, 3, 0, 0x1000), ALLOW),
    ("prlimit64", (0, 3, 0x1000, 0), DENIED),
    ("prlimit64", (0, 3, 1 << 32, 0), DENIED),
    ("prlimit64", (1, 3, 0, 0x1000), DENIED),
    ("fcntl", (5, 3), ALLOW),  # F_GETFL
    ("fcntl", (5, 4), DENIED),  # F_SETFL: O_APPEND and O_NONBLOCK belong to the open file description, not to a process
    ("fcntl", (5, 1030), ALLOW),  # F_DUPFD_CLOEXEC
    ("fcntl", (5, 8, 1), DENIED),  # F_SETOWN: signals to other processes
    ("fcntl", (5, 10), DENIED),  # F_SETSIG
    ("fcntl", (5, 6), DENIED),  # F_SETLK
    ("ioctl", (5, 0x5421), ALLOW),  # FIONBIO
    ("ioctl", (5, 0x5412), DENIED),  # TIOCSTI: types into the terminal
    ("ioctl", (5, 0x541C), DENIED),  # TIOCLINUX
    ("setsockopt", (5, 6, 1), ALLOW),  # TCP_NODELAY
    ("setsockopt", (5, 1, 21), DENIED),  # SO_SNDTIMEO, with which the parent bounds connect(2)
    ("setsockopt", (5, 1, 13), DENIED),  # SO_LINGER, which makes close(2) wait
    ("setsockopt", (5, 6, 30), DENIED),  # TCP_FASTOPEN_CONNECT
    ("setsockopt", (5, 0, 4), DENIED),  # IP_OPTIONS: source routes
    ("setsockopt", (5, 1, 26), DENIED),  # SO_ATTACH_FILTER
    ("setsockopt", (5, 1, 50), DENIED),  # SO_ATTACH_BPF
    ("setsockopt", (5, 6, 31), DENIED),  # TCP_ULP
    ("setsockopt", (5, 0, 64), DENIED),  # IPT_SO_SET_REPLACE
    ("setsockopt", (5, 41, 64), DENIED),
    ("getsockopt", (5, 1, 4), ALLOW),  # SO_ERROR
    ("getsockopt", (5, 6, 4), ALLOW),  # TCP_KEEPIDLE
    ("getsockopt", (5, 1, 17), DENIED),  # SO_PEERCRED
    ("getsockopt", (5, 1, 31), DENIED),  # SO_PEERSEC
    ("getsockopt", (5, 1, 59), DENIED),  # SO_PEERGROUPS
    ("getsockopt", (5, 1, 77), DENIED),  # SO_PEERPIDFD
    ("getsockopt", (5, 6, 11), DENIED),  # TCP_INFO
    ("clock_gettime", (1,), ALLOW),
    ("clock_gettime", (11,), ALLOW),  # CLOCK_TAI
    ("clock_gettime", (-6,), DENIED),  # the processor time of a process
    ("clock_gettime", ((~1 << 3) | 2,), DENIED),
    ("clock_getres", ((~1 << 3) | 6,), DENIED),
    ("clock_nanosleep", (1, 1), ALLOW),
    ("clock_nanosleep", ((~1 << 3) | 2, 0), DENIED),
    ("sched_getaffinity", (0, 128), ALLOW),
    ("sched_getaffinity", (1, 128), UNKNOWN),
]


@every_machine
@pytest.mark.parametrize(("name", "arguments", "expected"), CONDITIONS)
def test_arguments_decide(machine: str, name: str, arguments: tuple[int, ...], expected: int) -> None:
    assert verdict(NETWORK, machine, name, *arguments) == expected


READS, WRITES = (
    ("openat", "openat2", "open", "getdents64", "readlinkat"),
    ("mkdirat", "unlinkat", "renameat2", "linkat", "sendmsg"),
)
GRANTS: list[tuple[Any, bool, bool, bool, bool]] = [
    ({}, False, False, False, False),
    ({"read_fds": (5,)}, True, False, False, False),
    ({"write_fds": (5,)}, True, True, False, False),
    ({"network": True}, False, False, True, False),
    ({"network": True, "listens": True}, False, False, True, True),
    ({"listens": True}, False, False, False, False),
]


@every_machine
@pytest.mark.parametrize(("fields", "reads", "writes", "connects", "listens"), GRANTS)
def test_a_grant_allows_its_calls_and_no_others(
    machine: str, fields: Any, reads: bool, writes: bool, connects: bool, listens: bool
) -> None:
    wanted = Confinement(**fields)
    for names, granted in (
        (READS, reads),
        (WRITES, writes),
        (("setsockopt",), connects),
        (("accept", "accept4"), listens),
    ):
        for name in names:
            found = verdict(wanted, machine, name, 5, 6, 1)
            assert found is None or (found == ALLOW) == granted, name


@every_machine
def test_changing_owners_and_modes_is_no_part_of_any_grant(machine: str) -> None:
    numbers = {"x86_64": (90, 91, 92, 93, 94, 260, 268, 188, 189, 190), "aarch64": (52, 53, 54, 55, 5, 6, 7)}
    for number in numbers[machine]:
        assert verdict(Confinement(write_fds=(5,), network=True), machine, number) == DENIED


def test_the_numbers_are_those_of_the_kernels_headers() -> None:
    path = next(
        (
            p
            for p in map(Path, ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"))
            if p.exists()
        ),
        None,
    )
    if path is None:
        pytest.skip("the headers are not installed")
    found = {m[1]: int(m[2]) for m in re.finditer(r"#define __NR_(\w+)\s+(\d+)\b", path.read_text())}
    if found.get("read") != 0:
        pytest.skip("these headers are another architecture's")
    assert {name: x86 for name, (x86, _) in NUMBERS.items()} == {name: found[name] for name in NUMBERS}


def test_later_numbers_are_the_same_everywhere() -> None:
    for name, (x86, arm) in NUMBERS.items():
        if x86 >= 424:
            assert x86 == arm, name
    for column in (0, 1):
        numbers = [each[column] for each in NUMBERS.values() if each[column] is not None]
        assert len(numbers) == len(set(numbers))
        assert max(filter(None, numbers)) <= NEWEST


# -- the assembler ----------------------------------------------------------------------------------


def test_a_jump_goes_where_its_label_is() -> None:
    code = Assembler()
    code.load(0)
    code.jump_equal(7, then="yes", otherwise="no")
    code.label("no")
    code.ret(1)
    code.label("yes")
    code.ret(2)
    assert code.assemble() == struct.pack("=" + "HBBI" * 4, 0x20, 0, 0, 0, 0x15, 1, 0, 7, 6, 0, 0, 1, 6, 0, 0, 2)
    assert interpret(code.assemble(), struct.pack("=I", 7)) == 2
    assert interpret(code.assemble(), struct.pack("=I", 8)) == 1


def test_the_mask_and_the_comparisons_have_the_kernels_meaning() -> None:
    code = Assembler()
    code.load(0)
    code.mask(0xFF)
    code.jump_greater(0x10, then="more")
    code.jump_at_least(0x10, then="same")
    code.ret(0)
    code.label("same")
    code.ret(1)
    code.label("more")
    code.ret(2)
    assert [interpret(code.assemble(), struct.pack("=I", word)) for word in (0xF0F, 0xF10, 0xF11)] == [0, 1, 2]


def _backwards(code: Assembler) -> None:
    code.label("back")
    code.ret(0)
    code.jump_equal(0, then="back")


def _too_far(code: Assembler) -> None:
    code.jump_equal(0, then="far")
    for _ in range(256):
        code.ret(0)
    code.label("far")
    code.ret(0)


def _nowhere(code: Assembler) -> None:
    code.jump_equal(0, then="nowhere")


def _too_long(code: Assembler) -> None:
    for _ in range(MAX_INSTRUCTIONS + 1):
        code.ret(0)


def _twice(code: Assembler) -> None:
    code.label("same")
    code.label("same")


@pytest.mark.parametrize("mistake", [_backwards, _too_far, _nowhere, _too_long, _twice])
def test_rules_the_kernel_would_refuse_or_misread_are_errors(mistake: Any) -> None:
    def assemble() -> bytes:
        code = Assembler()
        mistake(code)
        return code.assemble()

    with pytest.raises(ValueError, match=r"label|jump|instructions"):
        assemble()


@every_machine
def test_the_largest_program_fits(machine: str) -> None:
    wanted = Confinement(read_fds=(5,), write_fds=(6,), network=True, listens=True)
    assert len(program(allowed(wanted, PROCESS), machine)) // 8 < 300


@every_machine
@pytest.mark.parametrize(
    "wanted",
    [Confinement(), Confinement(read_fds=(3,)), Confinement(write_fds=(3,), network=True, listens=True)],
    ids=["nothing", "reading", "everything"],
)
def test_of_all_numbers_exactly_those_of_the_list_are_allowed(machine: str, wanted: Confinement) -> None:
    rules = allowed(wanted, PROCESS)
    code, column = program(rules, machine), MACHINES.index(machine)
    unconditional = {NUMBERS[name][column] for name, rule in rules.items() if rule == ()}
    conditional = {NUMBERS[name][column] for name, rule in rules.items() if rule != ()}
    for number in {*range(NEWEST + 1)} - conditional:
        verdict = interpret(code, struct.pack("=IIQ6Q", number, AUDIT_ARCH[machine], 0, *[0] * 6))
        assert (verdict == ALLOW) == (number in unconditional), number


@pytest.mark.skipif(platform.machine() not in MACHINES, reason="filters of this machine are not known")
def test_a_filter_made_beforehand_is_that_of_the_process() -> None:
    for wanted in (Confinement(), Confinement(threads=False), NETWORK):
        for process in (1, PROCESS, (1 << 22) - 1):
            rules = allowed(wanted, process)
            assert filter_for(wanted, process) == (program(rules, platform.machine()), len(rules))
