"""A guest uses ``wasi:keyvalue`` in process and isolated alike, for the store is in the parent.

Oracle: each grant in pairs; a worker holds no descriptor of a store's file and learns no path of one.
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from aegis import (
    Aegis,
    Bound,
    CollectingSubscriber,
    Component,
    DeadlineExceeded,
    Err,
    KeyValueCapability,
    LinkError,
    MemoryStore,
    PolicyError,
    QuotaExceeded,
    Sandbox,
    WorkerCrashed,
)
from aegis.bindings.wasi_keyvalue_store import INTERFACE, ErrorNoSuchStore
from aegis.engine.call.door import Door
from aegis.host.keyvalue import Buckets
from aegis.isolation.parent.host_calls import HostFunctions
from aegis.limits import Limits
from aegis.observe.events import CapabilityChecked
from tests.isolation.isolated import PLACES, only_where_there_are_workers, runtime
from tests.isolation.liar import Peer, done, host, lying
from tests.keyvalue_guest import guest

pytestmark = only_where_there_are_workers
DENIED = "Err(ErrorAccessDenied())"  # the classes of an exported function are made from the component
everywhere = pytest.mark.parametrize("place", PLACES)


def granting(place: str, buckets: dict[str, Any], *, quotas: dict[str, Any] | None = None, **policy: Any) -> Aegis:
    return runtime(place, keyvalue=KeyValueCapability(buckets=buckets, **(quotas or {})), **policy)


@contextmanager
def guest_in(made: Aegis, *, bucket: str | None = "b", **options: Any) -> Iterator[Sandbox]:
    with made, made.sandbox(made.load_wat(guest()), **options) as sandbox:
        if bucket is not None:
            assert sandbox.call("open", bucket) is None
        yield sandbox


def listed(sandbox: Sandbox, cursor: str | None = None) -> tuple[list[str], str | None]:
    page = sandbox.call("list-keys", cursor)
    return page.keys, page.cursor


@everywhere
def test_a_guest_opens_what_is_granted_and_nothing_else(place: str) -> None:
    with guest_in(granting(place, {"b": "memory"}), bucket=None) as sandbox:
        denied = sandbox.run("open", "c")
        assert repr(denied.value) == DENIED
        assert [(d.capability, d.target, d.remedy) for d in denied.denials] == [
            ("keyvalue", "c", "--allow-keyvalue c"),
        ]  # fmt: skip
        assert denied.usage.denials == 1
        granted = sandbox.run("open", "b")
        assert (granted.value, granted.denials) == (None, ())


@everywhere
def test_without_a_grant_the_guest_runs_and_every_bucket_is_denied(place: str) -> None:
    with guest_in(runtime(place), bucket=None) as sandbox, pytest.raises(Err) as caught:
        sandbox.call("open", "b")
    assert repr(caught.value.value) == "ErrorAccessDenied()"


@everywhere
def test_every_function_passes_its_values(place: str) -> None:
    with guest_in(granting(place, {"b": "memory"})) as sandbox:
        call = sandbox.call
        assert call("get", "k") is None
        assert call("set", "k", b"\0\xff") is None
        assert (call("get", "k"), call("exists", "k"), call("exists", "K")) == (b"\0\xff", True, False)
        assert listed(sandbox, None) == (["k"], None)
        assert listed(sandbox, "k") == ([], None)
        assert (call("increment", "n", -7), call("bump", "n", 9), call("get", "n")) == (-7, 2, b"2")
        assert call("set-many", [("x", b"1"), ("é", b"")]) is None
        assert call("get-many", ["é", "q", "x"]) == [("é", b""), None, ("x", b"1")]
        assert call("delete-many", ["x", "k", "q"]) is None
        assert call("delete", "é") is None
        assert listed(sandbox, None) == (["n"], None)


@everywhere
def test_a_swap_gives_a_handle_of_the_value_as_it_is_now(place: str) -> None:
    with guest_in(granting(place, {"b": "memory"})) as sandbox:
        call = sandbox.call
        call("remember", "k")
        assert (call("current"), call("swap", b"1"), call("get", "k")) == (None, 0, b"1")
        call("remember", "k")
        call("set", "k", b"2")
        assert (call("swap", b"3"), call("current"), call("get", "k")) == (2, b"2", b"2")
        assert (call("swap", b"4"), call("get", "k")) == (0, b"4")


@everywhere
def test_a_bucket_that_is_opened_while_the_guest_begins_is_the_one_of_later(place: str, tmp_path: Path) -> None:
    buckets = {"b": "memory", "c": f"sqlite:{tmp_path}/kv.db"}
    for name in buckets:
        with granting(place, buckets) as made, made.sandbox(made.load_wat(guest(start=name))) as sandbox:
            sandbox.call("set", "k", b"1")
            sandbox.call("open", name)
            assert sandbox.call("get", "k") == b"1"
            grants: Any = sandbox._run.grants
            assert grants.of(Buckets) is sandbox._run.wasi_made.grants.of(Buckets)
    with granting(place, {}) as made, made.sandbox(made.load_wat(guest(start="b"))) as sandbox:
        assert repr(sandbox.run("open", "b").value) == DENIED


@everywhere
def test_a_quota_is_an_error_that_the_guest_handles_and_the_embedder_sees(place: str) -> None:
    with guest_in(granting(place, {"b": "memory"}, quotas={"max_keys": 1})) as sandbox:
        sandbox.call("set", "k", b"")
        outcome = sandbox.run("set", "l", b"")
        assert outcome.value.value.value == "bucket-key limit exceeded (2/1)"
        assert [d.rule for d in outcome.denials] == [
            "bucket-key limit exceeded (2/1): raise it with max_keys of the key-value capability"
        ]
        sandbox.call("remember", "l")
        assert sandbox.call("swap", b"") == 1
        assert sandbox.call("set", "k", b"again") is None


@everywhere
def test_what_is_gathered_for_a_guest_ends_the_run_beyond_the_limit(place: str) -> None:
    with guest_in(granting(place, {"b": "memory"}, value_bytes="2MiB")) as sandbox:
        sandbox.call("set", "k", bytes(300_000))
        with pytest.raises(QuotaExceeded):
            sandbox.call("get-many", ["k"] * 100)


@pytest.mark.usual(every=3)
@everywhere
@pytest.mark.parametrize(
    "name", ["", "b\0", "../b", "file:x?mode=memory", "b=sqlite:/etc/passwd", "\u202eb", "b" * 9999]
)
def test_a_hostile_name_is_denied_and_shown_escaped(place: str, name: str) -> None:
    with guest_in(granting(place, {"b": "memory"}), bucket=None) as sandbox:
        outcome = sandbox.run("open", name)
    assert repr(outcome.value) == DENIED
    (denial,) = outcome.denials
    assert denial.target.isprintable()
    assert len(denial.target) < 400
    assert "sqlite" not in denial.remedy


@pytest.mark.usual(every=3)
@everywhere
@pytest.mark.parametrize("key", ["", "\0", "\n", "'; DROP TABLE aegis_keyvalue; --", "\U0010ffff", "../x", "ke\u0301y"])
def test_any_text_is_a_key_like_another(place: str, key: str, tmp_path: Path) -> None:
    with guest_in(granting(place, {"b": f"sqlite:{tmp_path}/kv.db"})) as sandbox:
        sandbox.call("set", "other", b"1")
        sandbox.call("set", key, b"2")
        assert (sandbox.call("get", key), sandbox.call("get", "other")) == (b"2", b"1")
        assert sorted(sandbox.call("list-keys", None).keys) == sorted([key, "other"])
        sandbox.call("delete", key)
        assert sandbox.call("list-keys", None).keys == ["other"]


@everywhere
def test_events_tell_of_each_bucket_that_is_opened(place: str) -> None:
    seen = CollectingSubscriber()
    with guest_in(granting(place, {"b": "memory"}), subscribers=[seen]) as sandbox:
        sandbox.run("open", "c")
    checked = [e for e in seen.events if isinstance(e, CapabilityChecked)]
    assert [(e.capability, e.action, e.target, e.allowed) for e in checked] == [
        ("keyvalue", "open", "b", True), ("keyvalue", "open", "c", False),
    ]  # fmt: skip


# -- shared buckets -----------------------------------------------------------------------------


@everywhere
@pytest.mark.parametrize("kind", ["object", "sqlite"])
def test_two_sandboxes_share_a_bucket(place: str, kind: str, tmp_path: Path) -> None:
    store: Any = MemoryStore() if kind == "object" else f"sqlite:{tmp_path}/kv.db"
    with granting(place, {"b": store}) as made:
        component = made.load_wat(guest())
        with made.sandbox(component) as one, made.sandbox(component) as two:
            for sandbox in (one, two):
                sandbox.call("open", "b")
            one.call("set", "k", b"1")
            assert two.call("get", "k") == b"1"
            one.call("remember", "k")
            two.call("set", "k", b"2")
            assert one.call("swap", b"3") == 2


@everywhere
def test_a_bucket_in_memory_is_of_one_sandbox_and_a_reset_empties_it(place: str) -> None:
    with granting(place, {"b": "memory"}) as made:
        component = made.load_wat(guest())
        with made.sandbox(component) as one, made.sandbox(component) as two:
            for sandbox in (one, two):
                sandbox.call("open", "b")
            one.call("set", "k", b"1")
            assert two.call("get", "k") is None
            one.reset()
            one.call("open", "b")
            assert one.call("get", "k") is None


@everywhere
@pytest.mark.parametrize("kind", ["object", "sqlite"])
def test_increments_of_guests_on_several_threads_all_count(place: str, kind: str, tmp_path: Path) -> None:
    store: Any = MemoryStore() if kind == "object" else f"sqlite:{tmp_path}/kv.db"
    failures: list[BaseException] = []

    def work(made: Aegis, component: Component) -> None:
        try:
            with made.sandbox(component) as sandbox:
                sandbox.call("open", "b")
                for _ in range(4):
                    sandbox.call("bump", "n", 5)
        except BaseException as error:
            failures.append(error)

    with granting(place, {"b": store}, timeout="60s") as made:
        component: Any = made.load_wat(guest())
        threads = [threading.Thread(target=work, args=(made, component)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        with made.sandbox(component) as sandbox:
            sandbox.call("open", "b")
            assert sandbox.call("get", "n") == b"60"


# -- deadline, and what a worker has ------------------------------------------------------------


@everywhere
def test_a_file_that_others_lock_is_waited_for_until_the_deadline(place: str, tmp_path: Path) -> None:
    with guest_in(granting(place, {"b": f"sqlite:{tmp_path}/kv.db"}, timeout="1s")) as sandbox:
        sandbox.call("set", "k", b"1")
        with closing(sqlite3.connect(tmp_path / "kv.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(DeadlineExceeded) as caught:
                sandbox.call("get", "k")
    assert re.fullmatch(  # the time that has passed is more than 1 s on a loaded machine
        r"deadline exceeded \([\d.]+ s/1 s in one call\) in the host call "
        r"wasi:keyvalue/store@0\.2\.0-draft2#\[method\]bucket\.get: raise it with timeout or --timeout",
        str(caught.value),
    )


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors of another process are seen in /proc")
def test_a_worker_holds_no_descriptor_of_a_store_and_loads_no_code_of_one(tmp_path: Path) -> None:
    path = tmp_path / "kv.db"
    with guest_in(granting("isolated", {"b": f"sqlite:{path}"})) as sandbox:
        sandbox.call("set", "k", b"1")
        store: Any = sandbox._run.store
        folder = Path(f"/proc/{store.worker.pid}/fd")
        held = {os.readlink(folder / name) for name in os.listdir(folder)}
        assert held
        assert "sqlite" not in (folder.parent / "maps").read_text()
        assert not [name for name in held if name.startswith(str(tmp_path))]
        assert [n for n in os.listdir("/proc/self/fd") if os.path.realpath(f"/proc/self/fd/{n}") == str(path)]
    assert not [n for n in os.listdir("/proc/self/fd") if os.path.realpath(f"/proc/self/fd/{n}") == str(path)]


@everywhere
def test_a_store_that_cannot_be_opened_is_the_embedders_error(place: str, tmp_path: Path) -> None:
    path = tmp_path / "kv.db"
    path.write_text("no database, and long enough to be read as one" * 50)
    made = granting(place, {"b": f"sqlite:{path}"})
    with guest_in(made, bucket=None) as sandbox:
        sandbox.call("open", "b")
        with pytest.raises(PolicyError, match=r"kv\.db"):
            sandbox.call("get", "k")


def test_a_worker_is_not_told_the_path_in_an_error_of_the_policy() -> None:
    class Failing(HostFunctions):
        def answer(self, door: Door, number: int, values: list[Any]) -> Any:
            raise PolicyError("keyvalue: it cannot be opened in '/home/me/secret.db'")

    failed, plain = Failing().call(Door(Limits()), 0, [])
    assert failed
    assert "secret" not in repr(plain)


# -- linking ------------------------------------------------------------------------------------


@everywhere
def test_the_embedders_own_object_takes_the_place_of_the_host(place: str) -> None:
    class Store:
        def open(self, identifier: str) -> None:
            raise Err(ErrorNoSuchStore())

    made = granting(place, {"b": "memory"})
    with guest_in(made, bucket=None, imports={"wasi:keyvalue/store": Bound(INTERFACE, Store())}) as sandbox:
        with pytest.raises(Err) as caught:
            sandbox.call("open", "b")
        assert repr(caught.value.value) == "ErrorNoSuchStore()"


@everywhere
@pytest.mark.parametrize(("version", "served"), [("0.2.0-draft", True), ("0.2.0", True), ("0.3.0", False)])
def test_other_versions_are_served_where_the_types_agree(place: str, version: str, served: bool) -> None:
    with granting(place, {"b": "memory"}) as made:
        component = made.load_wat(guest(version))
        if served:
            with made.sandbox(component) as sandbox:
                assert sandbox.call("open", "b") is None
        else:
            with pytest.raises(LinkError):
                made.sandbox(component)


# -- a worker that was taken over ---------------------------------------------------------------

OPEN, GET, SET, LIST, INCREMENT, NEW, CURRENT, SWAP, GET_MANY = 0, 1, 2, 5, 6, 7, 8, 9, 10
"""The numbers of the guest's imports, in its order."""
BUCKET = (OPEN, ["b"])  # the parent's first object is 1, its second 2
FORGERIES = {
    "a bucket that was never given": [(GET, [1, "k"])],
    "a bucket that was denied": [(OPEN, ["c"]), (GET, [1, "k"])],
    "a value's handle for a bucket": [BUCKET, (NEW, [1, "k"]), (GET, [2, "k"])],
    "a bucket for a value's handle": [BUCKET, (CURRENT, [1])],
    "a value's handle that was given away": [BUCKET, (NEW, [1, "k"]), (SWAP, [2, b"v"]), (SWAP, [2, b"w"])],
    "a bucket that was dropped": [BUCKET, (-1, [1]), (GET, [1, "k"])],
    "a key that is no text": [BUCKET, (GET, [1, b"k"])],
    "a key that is no Unicode": [BUCKET, (GET, [1, "\ud800"])],
    "a value that is no bytes": [BUCKET, (SET, [1, "k", 7])],
    "a sum beyond 64 bits": [BUCKET, (INCREMENT, [1, "k", 1 << 63])],
    "a cursor that is a number": [BUCKET, (LIST, [1, [7]])],
    "too few arguments": [BUCKET, (GET, [1])],
    "a function that there is not": [(99, [])],
}


def asking(*questions: tuple[int, list[Any]]) -> Any:
    """Have host functions called by number, and then return."""

    def script(peer: Peer, _: Any) -> None:
        for mine, (number, values) in enumerate(questions, 1):
            peer.send(host(mine, number, values))
            peer.recv()
        peer.send(done([0, None]))

    return script


@pytest.mark.parametrize("name", FORGERIES)
def test_a_worker_that_lies_reaches_no_bucket(name: str) -> None:
    store = MemoryStore()
    policy = KeyValueCapability(buckets={"b": store})
    sandbox, liar = lying(guest(), asking(*FORGERIES[name]), keyvalue=policy)
    with sandbox, pytest.raises(WorkerCrashed):
        sandbox.call("get", "k")
    with store.transaction(Door(Limits())) as entries:
        assert entries.size()[0] <= (1 if "given away" in name else 0)
    liar.discard()


def test_the_quotas_of_a_worker_that_lies_are_the_parents() -> None:
    store = MemoryStore()
    policy = KeyValueCapability(buckets={"b": store}, max_keys=2, max_value_bytes=3)
    writes = [(SET, [1, f"k{n}", b"v"]) for n in range(9)]
    script = asking(BUCKET, *writes, (SET, [1, "k0", bytes(4)]), (SET, [1, "k" * 2000, b""]))
    sandbox, liar = lying(guest(), script, keyvalue=policy)
    with sandbox:
        assert sandbox.call("get", "k") is None
    with store.transaction(Door(Limits())) as entries:
        assert entries.size() == (2, 6)
    liar.discard()
