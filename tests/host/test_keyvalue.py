"""Every store keeps the same promises, which are stated once and hold for memory, SQLite and an embedder's store.

Oracle of the operations: a dictionary, and its keys in order. Quotas hold for the content of a bucket.
"""

from __future__ import annotations

import gc
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis import FilesystemCapability, KeyValueCapability, MemoryStore, PolicyError, QuotaExceeded
from aegis.bindings.wasi_keyvalue_store import ErrorAccessDenied, ErrorOther
from aegis.engine.call.door import Door
from aegis.errors import Cancelled, DeadlineExceeded
from aegis.host.keyvalue.sqlite import SqliteStore
from aegis.limits import Limits
from aegis.policy.keyvalue import KeyValueCall, KeyValueEntries, KeyValueStore
from aegis.wit.values import Err
from tests.host.preview2.guest import Guest, descriptors

STORE, ATOMICS, BATCH = (f"wasi:keyvalue/{name}" for name in ("store", "atomics", "batch"))


class Own:
    """An embedder's store as the documentation has it: a dictionary and a lock."""

    def __init__(self) -> None:
        self.lock, self.values = threading.RLock(), dict[str, bytes]()

    @contextmanager
    def transaction(self, call: KeyValueCall) -> Iterator[KeyValueEntries]:
        while not self.lock.acquire(blocking=False):
            call.wait(0.001)
        before = dict(self.values)
        try:
            yield self
        except BaseException:
            self.values = before
            raise
        finally:
            self.lock.release()

    def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    def set(self, key: str, value: bytes) -> None:
        self.values[key] = value

    def delete(self, key: str) -> None:
        self.values.pop(key, None)

    def keys(self, after: str | None, limit: int) -> Sequence[str]:
        return sorted(k for k in self.values if after is None or k > after)[:limit]

    def size(self) -> tuple[int, int]:
        return len(self.values), sum(len(k.encode()) + len(v) for k, v in self.values.items())


@pytest.fixture(params=["memory", "sqlite", "embedder"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A way to write each kind of store in a policy."""
    return {"memory": "memory", "sqlite": f"sqlite:{tmp_path}/kv.db", "embedder": Own()}[request.param]


@contextmanager
def opened(store: Any, *, limits: dict[str, Any] | None = None, timeout: float = 20, **quotas: Any) -> Iterator[Any]:
    """Give a guest's side of one bucket: the bucket, and the functions of atomics and batch."""
    capability = KeyValueCapability(buckets={"b": store}, **quotas)
    with Guest(keyvalue=capability, limits=limits, timeout=timeout) as made:
        made.bucket = made.of(STORE).open("b")  # type: ignore[attr-defined]
        yield made


def refused(function: Callable[..., Any], *arguments: Any) -> str:
    """Return why a call was answered with an error."""
    with pytest.raises(Err) as caught:
        function(*arguments)
    error = caught.value.value
    assert isinstance(error, ErrorOther)
    return error.value


# -- what an operation does ---------------------------------------------------------------------

keys = st.text(st.characters(codec="utf-8"), max_size=6)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("set"), keys, st.binary(max_size=9)),
        st.tuples(st.sampled_from(["get", "exists", "delete"]), keys),
        st.tuples(st.just("increment"), st.sampled_from(["n", "m"]), st.integers(-(1 << 63), (1 << 63) - 1)),
    ),
    max_size=30,
)


@pytest.mark.parametrize("kind", ["memory", "sqlite", "embedder"])
@given(script=steps)
def test_operations_are_those_of_a_dictionary(kind: str, script: list[tuple[Any, ...]], tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("kv") / "kv.db"
    store = {"memory": "memory", "sqlite": f"sqlite:{path}", "embedder": Own()}[kind]
    model: dict[str, bytes] = {}
    with opened(store) as made:
        for name, key, *rest in script:
            match name:
                case "set":
                    model[key] = rest[0]
                    made.bucket.set_(key, rest[0])
                case "get":
                    assert made.bucket.get(key) == model.get(key)
                case "exists":
                    assert made.bucket.exists(key) == (key in model)
                case "delete":
                    model.pop(key, None)
                    made.bucket.delete(key)
                case _:
                    _increment(made, model, key, rest[0])
        listed = made.bucket.list_keys(None)
        assert (listed.keys, listed.cursor) == (sorted(model), None)
        with made.bucket.opened._store.transaction(made.door) as entries:
            size = sum(len(k.encode()) + len(v) for k, v in model.items())
            assert entries.size() == (len(model), size)


def _increment(made: Any, model: dict[str, bytes], key: str, delta: int) -> None:
    try:
        total = int(model.get(key, b"0").decode()) + delta
    except ValueError:
        total = 1 << 64
    if -(1 << 63) <= total < 1 << 63:
        assert made.of(ATOMICS).increment(made.bucket, key, delta) == total
        model[key] = str(total).encode()
    else:
        refused(made.of(ATOMICS).increment, made.bucket, key, delta)


@pytest.mark.parametrize("value", [b"", b"x", b"1.5", b" 1", b"1_0", b"+1", b"-", "\u0661".encode(), b"9" * 21])
def test_only_a_decimal_number_can_be_incremented(store: Any, value: bytes) -> None:
    with opened(store) as made:
        made.bucket.set_("k", value)
        assert "is not a decimal number" in refused(made.of(ATOMICS).increment, made.bucket, "k", 1)
        assert made.bucket.get("k") == value


def test_a_sum_beyond_64_bits_changes_nothing(store: Any) -> None:
    with opened(store) as made:
        assert made.of(ATOMICS).increment(made.bucket, "k", (1 << 63) - 1) == (1 << 63) - 1
        assert "does not fit" in refused(made.of(ATOMICS).increment, made.bucket, "k", 1)
        assert made.bucket.get("k") == b"9223372036854775807"


def test_a_swap_succeeds_while_the_value_is_the_one_of_before(store: Any) -> None:
    with opened(store) as made:
        atomics = made.of(ATOMICS)
        absent = atomics.Cas.new(made.bucket, "k")
        assert absent.current() is None
        atomics.swap(absent, b"1")
        with pytest.raises(Err) as caught:
            atomics.swap(absent, b"2")
        latest = caught.value.value.value
        assert latest.current() == b"1"
        atomics.swap(latest, b"2")
        made.bucket.delete("k")
        with pytest.raises(Err) as caught:
            atomics.swap(atomics.Cas(latest.opened, latest.before), b"3")
        assert caught.value.value.value.current() is None


def test_a_batch_answers_in_the_order_of_its_keys(store: Any) -> None:
    with opened(store) as made:
        batch = made.of(BATCH)
        batch.set_many(made.bucket, [(str(n), b"%d" % n) for n in range(600)])
        wanted = ["599", "no", "0", "599"]
        assert batch.get_many(made.bucket, wanted) == [("599", b"599"), None, ("0", b"0"), ("599", b"599")]
        batch.delete_many(made.bucket, ["no", *(str(n) for n in range(1, 600))])
        assert made.bucket.list_keys(None).keys == ["0"]


def test_keys_come_in_pages_each_key_once(store: Any) -> None:
    names = sorted(f"{n:04}" for n in range(2500))
    with opened(store) as made:
        made.of(BATCH).set_many(made.bucket, [(name, b"") for name in names])
        found, cursor, pages = [], None, 0
        while pages == 0 or cursor is not None:
            page = made.bucket.list_keys(cursor)
            found += page.keys
            cursor, pages = page.cursor, pages + 1
        assert found == names
        assert pages == 3
        made.bucket.delete("1500")
        assert made.bucket.list_keys("1500").keys[0] == "1501"


def test_a_page_of_long_keys_is_shorter() -> None:
    with opened("memory") as made:
        made.of(BATCH).set_many(made.bucket, [(f"{n:04}" * 256, b"") for n in range(600)])
        page = made.bucket.list_keys(None)
        assert sum(map(len, page.keys)) <= 1 << 18
        assert page.cursor == page.keys[-1]


# -- grants -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "B", "b ", "b\0", "../b", "file:b?mode=memory", "b'; DROP TABLE x", "\U0001d553"])
def test_a_name_that_is_not_granted_is_denied_and_recorded(name: str) -> None:
    with opened("memory") as made, pytest.raises(Err) as caught:
        made.of(STORE).open(name)
    assert caught.value.value == ErrorAccessDenied()
    assert [(d.capability, d.action, d.allowed) for d in made.decisions] == [
        ("keyvalue", "open", True), ("keyvalue", "open", False),
    ]  # fmt: skip


def test_without_a_grant_there_is_no_bucket() -> None:
    with Guest() as made, pytest.raises(Err) as caught:
        made.of(STORE).open("b")
    assert caught.value.value == ErrorAccessDenied()
    assert made.denied == ["--allow-keyvalue b"]


def test_buckets_of_one_file_are_apart(tmp_path: Path) -> None:
    path = f"sqlite:{tmp_path}/kv.db"
    with Guest(keyvalue=KeyValueCapability(buckets={"a": path, "b": path})) as made:
        one, two = made.of(STORE).open("a"), made.of(STORE).open("b")
        one.set_("k", b"1")
        assert two.get("k") is None
        assert two.list_keys(None).keys == []


def test_a_bucket_in_memory_ends_with_its_sandbox_and_an_object_is_shared() -> None:
    shared = MemoryStore()
    for store, found in (("memory", None), (shared, b"1")):
        with opened(store) as made:
            made.bucket.set_("k", b"1")
        with opened(store) as made:
            assert made.bucket.get("k") == found


# -- quotas -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quotas", "fits", "not_fits", "message"),
    [
        ({"max_keys": 2}, [("a", b""), ("b", b"x")], ("c", b""), "bucket-key limit exceeded (3/2)"),
        ({"max_bytes": 10}, [("a", b"1234"), ("b", b"1234")], ("c", b""), "bucket-byte limit exceeded (11/10)"),
        ({"max_value_bytes": 4}, [("a", b"1234")], ("a", b"12345"), "bucket-value limit exceeded (5/4)"),
        ({"max_key_bytes": 4}, [("abcd", b""), ("éé", b"")], ("ééa", b""), "key-length limit exceeded (5/4)"),
    ],
)
def test_what_exceeds_a_quota_changes_nothing(
    store: Any, quotas: dict[str, int], fits: list[tuple[str, bytes]], not_fits: tuple[str, bytes], message: str
) -> None:
    with opened(store, **quotas) as made:
        for key, value in fits:
            made.bucket.set_(key, value)
        for ask in (made.bucket.set_, lambda k, v: made.of(BATCH).set_many(made.bucket, [(k, v)])):
            assert refused(ask, *not_fits) == message
        assert {key: made.bucket.get(key) for key, _ in fits} == dict(fits)
        assert len(made.bucket.list_keys(None).keys) == len(fits)
        (quota,) = quotas
        rule = f"{message}: raise it with {quota} of the key-value capability"
        assert [d.rule for d in made.decisions if not d.allowed] == [rule, rule]


def test_every_operation_that_takes_a_key_looks_at_its_length(store: Any) -> None:
    with opened(store, max_key_bytes=4) as made:
        atomics, batch, bucket = made.of(ATOMICS), made.of(BATCH), made.bucket
        for ask in (
            lambda k: bucket.get(k), lambda k: bucket.delete(k), lambda k: bucket.exists(k),
            lambda k: bucket.list_keys(k), lambda k: atomics.increment(bucket, k, 1),
            lambda k: atomics.Cas.new(bucket, k), lambda k: batch.get_many(bucket, ["a", k]),
            lambda k: batch.delete_many(bucket, ["a", k]),
        ):  # fmt: skip
            assert "key-length limit" in refused(ask, "abcde")


def test_increments_and_swaps_keep_within_the_quotas(store: Any) -> None:
    with opened(store, max_keys=1, max_value_bytes=2) as made:
        atomics = made.of(ATOMICS)
        assert atomics.increment(made.bucket, "a", 99) == 99
        assert "bucket-value limit" in refused(atomics.increment, made.bucket, "a", 1)
        assert "bucket-key limit" in refused(atomics.increment, made.bucket, "b", 1)
        with pytest.raises(Err) as caught:
            atomics.swap(atomics.Cas.new(made.bucket, "a"), b"123")
        assert "bucket-value limit" in caught.value.value.value.value
        assert made.bucket.get("a") == b"99"


def test_a_bucket_over_a_lowered_quota_can_shrink(store: Any) -> None:
    kept = MemoryStore() if store == "memory" else store
    with opened(kept) as made:
        made.bucket.set_("a", bytes(100))
    with opened(kept, max_bytes=10) as made:
        assert "bucket-byte limit" in refused(made.bucket.set_, "a", bytes(101))
        made.bucket.set_("a", bytes(99))
        made.bucket.delete("a")
        made.bucket.set_("a", bytes(9))


def test_what_the_host_gathers_for_a_guest_is_bounded(store: Any) -> None:
    """One large value asked for many times, and handles that remember it."""
    with opened(store, limits={"value_bytes": "4MiB"}) as made:
        made.bucket.set_("a", bytes(1 << 20))
        with pytest.raises(QuotaExceeded, match="value_bytes"):
            made.of(BATCH).get_many(made.bucket, ["a"] * 1000)
        held: list[Any] = []

        def remember() -> None:
            while len(held) < 1000:
                held.append(made.of(ATOMICS).Cas.new(made.bucket, "a"))

        with pytest.raises(QuotaExceeded, match="value_bytes"):
            remember()
        assert 2 <= len(held) < 4
        held.clear()
        assert made.of(BATCH).get_many(made.bucket, ["a"]) == [("a", bytes(1 << 20))]


def test_bytes_written_to_a_file_count_as_written_to_disk(tmp_path: Path) -> None:
    with opened(f"sqlite:{tmp_path}/kv.db", limits={"disk_written": 100}) as made:
        made.bucket.set_("a", bytes(90))
        with pytest.raises(QuotaExceeded, match="disk_written"):
            made.bucket.set_("a", bytes(10))
        assert made.bucket.get("a") == bytes(90)
    with opened("memory", limits={"disk_written": 100}) as made:
        made.bucket.set_("a", bytes(200))


# -- files --------------------------------------------------------------------------------------


def test_a_file_is_made_for_its_user_alone_and_closed_with_the_sandbox(tmp_path: Path) -> None:
    before = descriptors()
    with opened(f"sqlite:{tmp_path}/kv.db") as made:
        made.bucket.set_("k", b"v")
        assert stat.S_IMODE((tmp_path / "kv.db").stat().st_mode) == 0o600
        assert len(descriptors() - before) >= 1
    assert descriptors() <= before
    with opened(f"sqlite:{tmp_path}/kv.db") as made:
        assert made.bucket.get("k") == b"v"


def test_a_store_that_is_dropped_is_closed(tmp_path: Path) -> None:
    before = descriptors()
    store = SqliteStore(str(tmp_path / "kv.db"), "b")
    with store.transaction(Door(Limits())) as entries:
        entries.set("k", b"v")
    del store, entries
    gc.collect()
    assert descriptors() <= before


def _text(path: Path) -> None:
    path.write_text("this is no database " * 100)


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, _text, lambda path: path.symlink_to("nowhere")])
def test_what_is_no_database_is_an_error_that_names_the_file(make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path / "kv.db")
    with pytest.raises(PolicyError, match="the bucket 'b' cannot be opened in") as caught:  # noqa: SIM117
        with opened(f"sqlite:{tmp_path}/kv.db") as made:
            made.bucket.get("k")
    assert f"{tmp_path}/kv.db" in str(caught.value)


def test_a_failing_medium_is_told_without_its_name_and_recorded(tmp_path: Path) -> None:
    with opened(f"sqlite:{tmp_path}/kv.db") as made:
        made.bucket.set_("k", b"v")
        with closing(sqlite3.connect(tmp_path / "kv.db")) as other:
            other.execute("DROP TABLE aegis_keyvalue")
        assert refused(made.bucket.get, "k") == "the store failed"
        assert made.decisions[-1].rule == "the store failed: SQLITE_ERROR"
        assert not made.decisions[-1].allowed


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("name", ["kv.db", "kv.db-journal", "kv.db-wal", "."])
def test_no_grant_of_files_reaches_a_store(write: bool, name: str, tmp_path: Path) -> None:
    (tmp_path / "kv.db").touch()
    (tmp_path / "kv.db-journal").touch()
    (tmp_path / "kv.db-wal").touch()
    grant = FilesystemCapability.read_write if write else FilesystemCapability.read_only
    capability = KeyValueCapability(buckets={"b": f"sqlite:{tmp_path}/kv.db"})
    with (
        Guest(keyvalue=capability, filesystem=grant(f"{tmp_path / name}::/x")) as made,
        pytest.raises(PolicyError, match="a file of the key-value bucket 'b'"),
    ):
        _ = made.grants.preopens
    (tmp_path / "else").mkdir()
    with Guest(keyvalue=capability, filesystem=grant(f"{tmp_path}/else::/x")) as made:
        assert made.grants.preopens


# -- waiting for others -------------------------------------------------------------------------


def _held(kind: str, path: Path, stack: Any) -> Any:
    """Return a store that another thread or connection holds, for as long as the stack lasts."""
    if kind == "sqlite":
        with opened(f"sqlite:{path}") as made:
            made.bucket.set_("k", b"v")
        other = stack.enter_context(closing(sqlite3.connect(path, isolation_level=None)))
        other.execute("BEGIN EXCLUSIVE")
        return f"sqlite:{path}"
    store: KeyValueStore = MemoryStore() if kind == "memory" else Own()
    elsewhere, done = threading.Event(), threading.Event()

    def hold() -> None:
        with store.transaction(Door(Limits())):
            elsewhere.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    elsewhere.wait(60)
    stack.callback(thread.join)
    stack.callback(done.set)
    return store


@pytest.mark.parametrize("kind", ["memory", "sqlite", "embedder"])
def test_a_store_that_others_hold_is_waited_for_until_the_deadline(kind: str, tmp_path: Path) -> None:
    from contextlib import ExitStack

    with ExitStack() as stack:
        store = _held(kind, tmp_path / "kv.db", stack)
        with opened(store, timeout=0.2) as made:
            before = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                made.bucket.set_("k", b"w")
            assert time.monotonic() >= made.door.deadline
            assert time.monotonic() - before < 5


@pytest.mark.parametrize("kind", ["memory", "sqlite", "embedder"])
def test_a_cancellation_ends_the_wait(kind: str, tmp_path: Path) -> None:
    from contextlib import ExitStack

    with ExitStack() as stack:
        store = _held(kind, tmp_path / "kv.db", stack)
        with opened(store, timeout=60) as made:
            waits = threading.Event()
            wait = made.door.wait
            made.door.wait = lambda *a, **k: (waits.set(), wait(*a, **k))[1]
            ended: list[BaseException] = []

            def ask() -> None:
                try:
                    made.bucket.get("k")
                except BaseException as error:
                    ended.append(error)

            thread = threading.Thread(target=ask)
            thread.start()
            assert waits.wait(30)
            made.door.cancel()
            thread.join(10)
            assert [type(e) for e in ended] == [Cancelled]


def test_a_store_is_as_before_when_a_transaction_fails(store: Any) -> None:
    with opened(store) as made:
        made.bucket.set_("a", b"1")
        made.bucket.set_("b", b"2")
        kept = made.bucket.opened._store
        with pytest.raises(RuntimeError), kept.transaction(made.door) as entries:  # noqa: PT012
            entries.set("a", b"x")
            entries.set("c", b"y")
            entries.delete("b")
            entries.set("a", b"z")
            raise RuntimeError
        assert made.bucket.list_keys(None).keys == ["a", "b"]
        assert (made.bucket.get("a"), made.bucket.get("b")) == (b"1", b"2")
        with kept.transaction(made.door) as entries:
            assert entries.size() == (2, 4)


@pytest.mark.parametrize("kind", ["memory", "sqlite", "embedder"])
def test_increments_of_several_threads_all_count(kind: str, tmp_path: Path) -> None:
    store: Any = {"memory": MemoryStore(), "sqlite": f"sqlite:{tmp_path}/kv.db", "embedder": Own()}[kind]
    with opened(store) as made:
        made.bucket.set_("n", b"0")
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with opened(store, timeout=60) as made:
                for _ in range(25):
                    made.of(ATOMICS).increment(made.bucket, "n", 1)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    with opened(store) as made:
        assert made.bucket.get("n") == b"100"


def test_two_stores_of_one_file_do_not_deadlock(tmp_path: Path) -> None:
    """Both read first and then write, which deferred transactions would not survive."""
    stores = [SqliteStore(str(tmp_path / "kv.db"), "b") for _ in range(2)]
    door = Door(Limits())
    for n in range(20):
        with stores[n % 2].transaction(door) as entries:
            entries.set("n", b"%d" % (int(entries.get("n") or b"0") + 1))
    with stores[0].transaction(door) as entries:
        assert entries.get("n") == b"20"
    for one in stores:
        one.close()


# -- hostile files ------------------------------------------------------------------------------

ENDLESS = """CREATE VIEW aegis_keyvalue (bucket, key, value) AS
    WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT 'b', CAST(x AS TEXT), x FROM c"""
SCHEMAS = {
    "a view without end": [ENDLESS],
    "another table": ["CREATE TABLE aegis_keyvalue (bucket, key, value)"],
    "a check without end": [
        "CREATE TABLE aegis_keyvalue (bucket TEXT, key BLOB, value BLOB CHECK (length(randomblob(1e9)) > 0))"
    ],
}


@pytest.mark.parametrize("statements", SCHEMAS.values(), ids=SCHEMAS)
def test_a_file_with_another_schema_is_an_error_that_names_it(statements: list[str], tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "kv.db")) as file:
        for statement in statements:
            file.execute(statement)
        file.commit()
    with pytest.raises(PolicyError, match="its tables are not those of a key-value store"):  # noqa: SIM117
        with opened(f"sqlite:{tmp_path}/kv.db") as made:
            made.bucket.get("k")


def test_a_trigger_on_a_table_is_an_error(tmp_path: Path) -> None:
    with opened(f"sqlite:{tmp_path}/kv.db") as made:
        made.bucket.set_("k", b"v")
    with closing(sqlite3.connect(tmp_path / "kv.db")) as file:
        file.execute("CREATE TRIGGER t AFTER INSERT ON aegis_keyvalue BEGIN SELECT 1; END")
        file.commit()
    with pytest.raises(PolicyError, match="its tables are not those"):  # noqa: SIM117
        with opened(f"sqlite:{tmp_path}/kv.db") as made:
            made.bucket.get("k")


def test_a_statement_without_end_ends_at_the_deadline_and_by_cancellation(tmp_path: Path) -> None:
    """The schema is right when it is checked, and another connection replaces it afterwards."""
    store = SqliteStore(str(tmp_path / "kv.db"), "b")
    with store.transaction(Door(Limits())) as entries:
        entries.set("k", b"v")
    with closing(sqlite3.connect(tmp_path / "kv.db")) as file:
        file.execute("DROP TABLE aegis_keyvalue")
        file.execute(ENDLESS)
        file.commit()
    late = Door(Limits(timeout=0.2))
    late.begin()
    late.deadline = time.monotonic() + 0.2
    with pytest.raises(DeadlineExceeded), store.transaction(late) as entries:
        entries.keys(None, 10**9)
    cancelled = Door(Limits())
    timer = threading.Timer(0.1, cancelled.cancel)
    timer.start()
    with pytest.raises(Cancelled), store.transaction(cancelled) as entries:
        entries.keys(None, 10**9)
    timer.join()
    store.close()


ROWS = {
    "a number as value": ("get", "INSERT INTO aegis_keyvalue VALUES ('b', x'6b', 3)"),
    "a huge number as value": ("get", "INSERT INTO aegis_keyvalue VALUES ('b', x'6b', 3000000000000000)"),
    "a negative number as value": ("get", "INSERT INTO aegis_keyvalue VALUES ('b', x'6b', -3)"),
    "text as value": ("get", "INSERT INTO aegis_keyvalue VALUES ('b', x'6b', 'text')"),
    "a value beyond the quota": ("get", "INSERT INTO aegis_keyvalue VALUES ('b', x'6b', zeroblob(300000000))"),
    "a key that is not UTF-8": ("keys", "INSERT INTO aegis_keyvalue VALUES ('b', x'ff', x'')"),
    "text as key": ("keys", "INSERT INTO aegis_keyvalue VALUES ('b', 'k', x'')"),
    "a size that is text": ("set", "INSERT INTO aegis_keyvalue_size VALUES ('b', 'many', 1)"),
    "a size below zero": ("set", "INSERT INTO aegis_keyvalue_size VALUES ('b', 1, -9223372036854775807)"),
}


@pytest.mark.parametrize(("operation", "row"), ROWS.values(), ids=ROWS)
def test_a_damaged_row_is_an_error_that_the_guest_can_handle(operation: str, row: str, tmp_path: Path) -> None:
    with opened(f"sqlite:{tmp_path}/kv.db") as made:
        made.bucket.delete("other")
    with closing(sqlite3.connect(tmp_path / "kv.db")) as file:
        file.execute("DELETE FROM aegis_keyvalue_size")
        file.execute(row)
        file.commit()
    calls = {
        "get": lambda b: b.get("k"), "keys": lambda b: b.list_keys(None), "set": lambda b: b.set_("k", b"v")
    }  # fmt: skip
    with opened(f"sqlite:{tmp_path}/kv.db") as made:
        with pytest.raises(Err) as caught:
            calls[operation](made.bucket)
        assert isinstance(caught.value.value, ErrorOther)
