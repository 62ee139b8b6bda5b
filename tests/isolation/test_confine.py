"""Each layer in pairs: alone it stops its attack, without any the attack succeeds; with all layers it fails too."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from aegis.isolation.confine import LAYERS
from aegis.isolation.confine.landlock import READ, WRITE, handled
from tests.isolation.confined import all_but, attack

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the layers are Linux's")

MIB = 1 << 20
ROOT_USER = os.name == "posix" and os.geteuid() == 0


class Pair(NamedTuple):
    """An attack, the layer that stops it, and how it fails then."""

    layer: str
    name: str
    failure: int | str
    order: dict[str, Any] = {}  # noqa: RUF012 (a NamedTuple's default, never changed)

    def __str__(self) -> str:
        return f"{self.layer}-{self.name}-{self.order.get('name', '')}".strip("-")


NETWORK = {"network": True, "listens": True}
INET, INET6, UNIX, NETLINK, PACKET = 2, 10, 1, 16, 17
STREAM, DGRAM, RAW = 1, 2, 3

PAIRS = [
    Pair("landlock-files", "read_file", errno.EACCES, {"path": "/etc/passwd"}),
    Pair("landlock-files", "list_directory", errno.EACCES, {"path": "/"}),
    Pair("landlock-net", "kill_parent", errno.EPERM),
    Pair("landlock-net", "bind", errno.EACCES, {"port": 0}),
    Pair("rlimits", "take_memory", "MemoryError", {"bytes": 512 * MIB, "wanted": {"data_bytes": 256 * MIB}}),
    Pair("rlimits", "grow_file", errno.EFBIG, {"bytes": 2 * MIB}),
    Pair("rlimits", "open_many", errno.EMFILE, {"count": 70}),
    Pair("private-tmp", "write_relative", errno.ENOENT, {"folder": tempfile.gettempdir()}),
    Pair("seccomp", "read_file", errno.EPERM, {"path": "/etc/passwd"}),
    Pair("seccomp", "fork", errno.EPERM),
    Pair("seccomp", "execve", errno.EPERM),
    Pair("seccomp", "kill_parent", errno.EPERM),
    Pair("seccomp", "trace_parent", errno.EPERM),
    Pair("seccomp", "turn_dumpable", errno.EPERM),
    Pair("seccomp", "raise_limit", "ValueError"),
    Pair("seccomp", "open_socket", errno.EPERM, {"socket": [INET, STREAM, 0]}),
    Pair("seccomp", "open_socket", errno.EPERM, {"socket": [UNIX, STREAM, 0], "wanted": NETWORK, "name": "unix"}),
    Pair("seccomp", "open_socket", errno.EPERM, {"socket": [INET, STREAM, 0], "wanted": NETWORK, "name": "tcp"}),
    Pair("seccomp", "open_socket", errno.EPERM, {"socket": [INET6, DGRAM, 0], "wanted": NETWORK, "name": "udp"}),
    Pair("seccomp", "open_socket", errno.EPERM, {"socket": [INET, STREAM, 262], "wanted": NETWORK, "name": "mptcp"}),
    Pair("seccomp", "open_socket", errno.EPERM, {"socket": [NETLINK, RAW, 4], "wanted": NETWORK, "name": "diag"}),
    Pair("seccomp", "attach_filter", errno.EPERM, {"wanted": NETWORK}),
]


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_a_layer_alone_stops_the_attack_that_succeeds_without_it(pair: Pair) -> None:
    free = attack(pair.name, skip=all_but(), **pair.order)
    if free.failure in (errno.EPROTONOSUPPORT, errno.ENOPROTOOPT):
        pytest.skip("the kernel has nothing to attack")
    assert free.failure is None, "the attack does not work even where nothing stops it"
    assert free.code == 0
    stopped = attack(pair.name, skip=all_but(pair.layer), **pair.order).needs(pair.layer)
    assert stopped.failure == pair.failure


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_under_all_layers_the_attack_fails(pair: Pair) -> None:
    assert attack(pair.name, **pair.order).failure is not None


FORBIDDEN: dict[str, tuple[list[int], int]] = {
    "unshare": ([0], errno.EPERM),
    "io_uring_setup": ([1, 0], errno.EPERM),
    "bpf": ([0, 0, 0], errno.EPERM),
    "mount": ([0, 0, 0, 0, 0], errno.EPERM),
    "keyctl": ([0, -3, 0], errno.EPERM),
    "add_key": ([0, 0, 0, 0, 0], errno.EPERM),
    "perf_event_open": ([0, 0, -1, -1, 0], errno.EPERM),
    "process_vm_readv": ([0, 0, 0, 0, 0, 0], errno.EPERM),
    "pidfd_open": ([1, 0], errno.EPERM),
    "userfaultfd": ([0], errno.EPERM),
    "kexec_load": ([0, 0, 0, 0], errno.EPERM),
    "open_by_handle_at": ([-1, 0, 0], errno.EPERM),
    "chroot": ([0], errno.EPERM),
    "setns": ([-1, 0], errno.EPERM),
    "tkill": ([0, 0], errno.EPERM),
    "tgkill": ([1, 1, 0], errno.EPERM),
    "personality": ([0xFFFFFFFF], errno.EPERM),
    "execveat": ([-1, 0, 0, 0, 0], errno.EPERM),
    "rt_sigqueueinfo": ([1, 0, 0], errno.EPERM),
    "init_module": ([0, 0, 0], errno.EPERM),
    "socketpair": ([1, 2, 0, 0], errno.EPERM),
    "memfd_secret": ([0], errno.EPERM),
    "landlock_create_ruleset": ([0, 0, 1], errno.EPERM),
    "seccomp": ([2, 0, 0], errno.EPERM),
    "capset": ([0, 0], errno.EPERM),
    "setuid": ([0], errno.EPERM),
    "clone3": ([0, 0], errno.ENOSYS),
    "no_such_call": ([], errno.ENOSYS),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_calls_that_no_worker_needs_are_refused_by_the_filter(name: str) -> None:
    arguments, number = FORBIDDEN[name]
    ended = attack("system_call", name=name, arguments=arguments, skip=all_but("seccomp"), wanted=NETWORK)
    assert ended.needs("seccomp").failure == number


def test_a_call_of_another_architecture_ends_the_process() -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("this machine has one way to call the kernel")
    free = attack("foreign_call", skip=all_but())
    if free.value != 1:
        pytest.skip("this kernel takes no 32-bit calls")
    ended = attack("foreign_call", skip=all_but("seccomp"))
    assert ended.code == -signal.SIGSYS
    assert attack("x32_call", skip=all_but("seccomp")).code == -signal.SIGSYS


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A granted directory, with a secret beside it."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "granted").mkdir()
    (tmp_path / "granted" / "inside").write_text("inside")
    (tmp_path / "granted" / "out").symlink_to("../secret")
    return tmp_path


@pytest.mark.parametrize("name", ["../secret", "out"])
def test_a_granted_directory_is_no_way_to_its_neighbours(tree: Path, name: str) -> None:
    order = {"grant": [str(tree / "granted")], "name": name}
    assert attack("read_beneath", skip=all_but(), **order).value == "secret"
    assert attack("read_beneath", skip=all_but("landlock-files"), **order).needs("landlock-files").failure == 13
    assert attack("read_beneath", **order).failure is not None


def test_grants_can_be_read_under_all_layers(tree: Path) -> None:
    order = {"grant": [str(tree / "granted")], "name": "inside"}
    assert attack("read_beneath", **order).value == "inside"
    assert attack("write_beneath", **order).failure == errno.EACCES
    assert (tree / "granted" / "inside").read_text() == "inside"


def test_writable_grants_can_be_changed_in_every_way_under_all_layers(tree: Path) -> None:
    order = {"grant": [str(tree / "granted")], "writes": True}
    assert attack("change_beneath", **order).value == ["inside", "linked", "out", "pointer"]
    free = attack("move_out", skip=all_but(), path=str(tree / "moved"), **order)
    assert free.failure is None
    (tree / "moved").rename(tree / "granted" / "inside")
    assert attack("move_out", path=str(tree / "moved"), **order).failure in (errno.EXDEV, errno.EACCES, errno.ENOENT)


@pytest.mark.parametrize("layer", ["landlock-files", "seccomp"])
def test_nothing_but_files_directories_and_links_is_made(tree: Path, layer: str) -> None:
    order = {"grant": [str(tree / "granted")], "writes": True}
    assert attack("make_fifo", skip=all_but(), **order).failure is None
    (tree / "granted" / "fifo").unlink()
    assert attack("make_fifo", skip=all_but(layer), **order).needs(layer).failure in (errno.EACCES, errno.EPERM)


def test_a_granted_file_is_a_grant_of_that_file(tree: Path) -> None:
    inside, secret = str(tree / "granted" / "inside"), str(tree / "secret")
    assert attack("read_file", grant=[inside], path=inside).value == "inside"
    assert attack("read_file", grant=[inside], path=secret).failure is not None


@pytest.mark.parametrize("version", range(1, 9))
def test_every_version_of_landlock_handles_the_rights_it_knows(version: int) -> None:
    assert handled(version).bit_length() == {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)
    assert READ & handled(version) == READ
    assert (WRITE & ~handled(version)) in (0, 1 << 13 | 1 << 14, 1 << 14)


# -- network ----------------------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[int]:
    """The port of a loopback server."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("wanted", [{}, NETWORK], ids=["nothing", "network"])
def test_a_worker_connects_to_no_port_itself(listener: int, wanted: dict[str, Any]) -> None:
    order = {"port": listener, "wanted": wanted}
    assert attack("connect", skip=all_but(), **order).value == "connected"
    assert attack("connect", skip=all_but("landlock-net"), **order).needs("landlock-net").failure == errno.EACCES
    alone = attack("connect", skip=all_but("namespaces"), **order).needs("namespaces")
    assert alone.failure in (errno.ENETUNREACH, errno.ECONNREFUSED)
    assert attack("connect", **order).failure == errno.EPERM


def test_a_connection_without_connect_is_no_way_out(listener: int) -> None:
    order = {"port": listener, "wanted": NETWORK}
    free = attack("connect_fast", skip=all_but(), **order)
    if free.failure is not None:
        pytest.skip("the kernel sends no data with the first segment")
    assert attack("connect_fast", skip=all_but("seccomp"), **order).needs("seccomp").failure == errno.EPERM


@pytest.mark.parametrize("wanted", [{}, NETWORK], ids=["nothing", "network"])
def test_a_worker_binds_no_port_itself(wanted: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    order = {"port": port, "wanted": wanted}
    assert attack("bind", skip=all_but(), **order).value == "bound"
    assert attack("bind", skip=all_but("landlock-net"), **order).needs("landlock-net").failure == errno.EACCES
    assert attack("bind", **order).failure == errno.EPERM


def test_abstract_sockets_of_others_are_out_of_reach() -> None:
    name = f"aegis-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind("\0" + name)
        server.listen()
        order = {"name": name, "wanted": NETWORK}
        assert attack("connect_abstract", skip=all_but(), **order).value == "connected"
        scoped = attack("connect_abstract", skip=all_but("landlock-net"), **order).needs("landlock-net")
        if "need ABI 6" in scoped.layers["landlock-net"].detail:
            pytest.skip(scoped.layers["landlock-net"].detail)
        assert scoped.failure == errno.EPERM


def test_no_name_is_resolved_by_a_worker_itself() -> None:
    assert attack("resolve", skip=all_but()).value >= 1
    assert attack("resolve", wanted=NETWORK).failure is not None


def test_a_worker_cannot_identify_its_parent_by_their_sockets() -> None:
    reported = attack("peers", own=True, skip=all_but()).value
    assert "SO_PEERCRED" in reported
    assert attack("peers", own=True, skip=all_but("seccomp")).needs("seccomp").failure == errno.EPERM  # socketpair


# -- what was inherited ---------------------------------------------------------------------------------


def test_an_inherited_descriptor_is_closed(tree: Path) -> None:
    order = {"inherit": str(tree / "secret")}
    assert attack("read_inherited", skip=all_but(), **order).value == "secret"
    assert attack("read_inherited", skip=all_but("descriptors"), **order).failure == errno.EBADF
    assert attack("read_inherited", **order).failure == errno.EBADF


def test_standard_input_is_empty_where_it_is_not_kept() -> None:
    assert attack("read_standard_input").value == ""
    assert attack("read_standard_input", wanted={"keep_fds": [0, 1, 2]}).value == ""


def test_the_environment_is_empty_for_python_c_and_the_kernel() -> None:
    full = attack("environment", skip=all_but())
    assert full.value == {"python": True, "c": True, "kernel": True}
    assert attack("environment", skip=all_but("environment")).value == {"python": False, "c": False, "kernel": False}


# -- the process ---------------------------------------------------------------------------------------


def test_processor_time_ends_with_its_signal() -> None:
    ended = attack("burn", wanted={"cpu_seconds": 1})
    assert ended.code == -signal.SIGXCPU


@pytest.mark.parametrize("threads", [True, False])
def test_threads_start_where_they_may(threads: bool) -> None:
    ended = attack("start_thread", wanted={"threads": threads})
    assert ended.value == ([1] if threads else [])


def test_abort_still_ends_the_process() -> None:
    assert attack("kill_self").code == -signal.SIGABRT


@pytest.mark.parametrize("layer", ["rlimits", "no-dump"])
def test_a_crash_leaves_no_core_file(tmp_path: Path, layer: str) -> None:
    for name in ("free", "alone", "all"):
        (tmp_path / name).mkdir()
    assert attack("kill_self", core=True, folder=str(tmp_path / "free"), skip=all_but()).code == -signal.SIGABRT
    if not list((tmp_path / "free").iterdir()):
        pytest.skip("this system writes no core files to the working directory")
    for name, skip in (("alone", all_but(layer)), ("all", {"private-tmp"})):
        assert attack("kill_self", core=True, folder=str(tmp_path / name), skip=skip).code == -signal.SIGABRT
        assert not list((tmp_path / name).iterdir())


def test_privileges_and_dumps_are_forbidden() -> None:
    assert attack("new_privileges_barred", skip=LAYERS).value == 0
    assert attack("new_privileges_barred", skip=all_but()).value == 1
    assert attack("dumpable", skip=all_but()).value == 1
    assert attack("dumpable", skip=all_but("no-dump")).value == 0


@pytest.mark.parametrize("user", [0, 1000])
def test_the_signal_of_the_parents_death_survives_the_loss_of_privileges(user: int) -> None:
    if not ROOT_USER:
        pytest.skip("only root changes its user")
    ended = attack("death_signal", skip={"seccomp"}, dies_with_parent=True, user=user)
    assert ended.value == signal.SIGKILL


def test_root_becomes_user_nobody_where_no_files_are_granted() -> None:
    if not ROOT_USER:
        pytest.skip("this user has nothing to lose")
    ended = attack("identity", skip={"seccomp"}).needs("unprivileged")
    assert ended.value == {"user": 65534, "capabilities": [0] * 6, "groups": [], "bounding": 0}
    assert attack("identity", skip=all_but()).value["capabilities"][0] != 0


@pytest.mark.parametrize("writes", [False, True])
def test_root_keeps_the_file_capabilities_that_grants_need(tree: Path, writes: bool) -> None:
    if not ROOT_USER:
        pytest.skip("this user has nothing to lose")
    granted = tree / "granted"
    for path in (granted, granted / "inside"):
        os.chown(path, 1000, 1000)
        path.chmod(0o700)
    order = {"grant": [str(granted)], "writes": writes, "name": "inside"}
    capabilities = attack("identity", skip={"seccomp"}, **order).value["capabilities"]
    assert capabilities == [0b1110 if writes else 0b100] * 2 + [0] * 4
    assert attack("read_beneath", **order).value == "inside"
    assert (attack("write_beneath", **order).failure is None) == writes


def test_a_user_without_privileges_gets_every_layer_by_a_namespace_of_its_own(listener: int) -> None:
    if not ROOT_USER:
        pytest.skip("this user is tested by every other test")
    ended = attack("connect", user=1000, port=listener, skip={"seccomp"}).needs("namespaces")
    assert ended.failure is not None
    assert all(layer.active for name, layer in ended.layers.items() if name != "seccomp")
    assert "user 1000" in ended.layers["unprivileged"].detail
    assert "processes" in ended.layers["rlimits"].detail


def test_without_no_new_privileges_the_layers_that_need_it_say_so() -> None:
    ended = attack("nothing", skip={"no-new-privs"}, user=1000 if ROOT_USER else 0)
    assert ended.value == "alive"
    for name in ("landlock-files", "landlock-net", "seccomp"):
        assert not ended.layers[name].active
        assert ended.layers[name].detail.startswith(("EPERM", "EACCES"))


@pytest.mark.parametrize("left_out", LAYERS)
def test_any_layer_can_be_missing_and_is_reported(left_out: str) -> None:
    ended = attack("nothing", skip={left_out})
    assert ended.value == "alive"
    assert tuple(ended.layers) == LAYERS
    assert not ended.layers[left_out].active
    assert ended.layers[left_out].detail == "skipped on request"


CONTAINER = {"landlock_create_ruleset": errno.ENOSYS, "unshare": errno.EPERM}


@pytest.mark.parametrize("user", [0, 1000])
def test_layers_that_a_container_prevents_are_reported_and_the_rest_holds(user: int) -> None:
    if user and not ROOT_USER:
        pytest.skip("only root changes its user")
    ended = attack("read_file", hide=CONTAINER, path="/etc/passwd", user=user)
    missing = {name: layer.detail for name, layer in ended.layers.items() if not layer.active}
    assert set(missing) == {"namespaces", "landlock-files", "landlock-net"}
    assert "EPERM" in missing["namespaces"]
    assert "ENOSYS" in missing["landlock-files"]
    assert ended.failure == errno.EPERM  # the filter rejects every open


def test_landlock_that_is_not_switched_on_says_how_to_switch_it_on() -> None:
    ended = attack("nothing", hide={"landlock_create_ruleset": errno.EOPNOTSUPP})
    assert "lsm=" in ended.layers["landlock-files"].detail


def test_root_without_the_right_to_namespaces_keeps_the_files_of_others(tree: Path) -> None:
    """As in a container: a user namespace suffices without grants, but would make grants unreachable."""
    if not ROOT_USER:
        pytest.skip("this user is not root")
    without = attack("nothing", drops_admin=True).needs("namespaces")
    assert "user" in without.layers["namespaces"].detail
    granted = tree / "granted"
    for path in (granted, granted / "inside"):
        os.chown(path, 1000, 1000)
        path.chmod(0o700)
    ended = attack("write_beneath", drops_admin=True, grant=[str(granted)], writes=True, name="inside")
    assert not ended.layers["namespaces"].active
    assert ended.failure is None


def test_on_an_unknown_architecture_the_layers_that_need_the_kernel_are_reported() -> None:
    ended = attack("nothing", personality=8)  # PER_LINUX32: uname says so
    if ended.layers["seccomp"].active:
        pytest.skip("this kernel does not pretend to be another machine")
    assert ended.value == "alive"
    assert "not supported on" in ended.layers["seccomp"].detail
    assert ended.layers["rlimits"].active
    assert ended.layers["descriptors"].active


def test_the_worker_dies_first_when_memory_runs_out() -> None:
    assert attack("first_to_be_killed", skip=LAYERS).value == 0
    assert attack("first_to_be_killed", skip=all_but("oom-score")).needs("oom-score").value == 1000


@pytest.mark.parametrize("user", [0, 1000])
def test_threads_without_end_are_refused_where_they_can_be_counted(user: int) -> None:
    if user and not ROOT_USER:
        pytest.skip("only root changes its user")
    assert attack("many_threads_at_once", count=100, skip=all_but(), user=user).value == "started"
    ended = attack("many_threads_at_once", count=100, user=user)
    if "processes" not in ended.layers["rlimits"].detail:
        pytest.skip("there is no user namespace to count them in")
    assert ended.value == "refused"


def test_without_a_size_for_files_none_grows_larger_than_memory_may() -> None:
    wanted = {"file_bytes": None, "data_bytes": 256 * MIB}
    assert attack("grow_file", bytes=200 * MIB, wanted=wanted).failure is None
    assert attack("grow_file", bytes=300 * MIB, wanted=wanted).failure == errno.EFBIG


def test_threads_that_ran_before_are_reported_where_a_layer_does_not_reach_them() -> None:
    ended = attack("nothing", thread=True)
    for name in ("unprivileged", "landlock-files", "landlock-net"):
        assert not ended.layers[name].active
        assert "1 other thread" in ended.layers[name].detail
    assert ended.layers["seccomp"].active == attack("nothing").layers["seccomp"].active
