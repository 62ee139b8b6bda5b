"""Components end to end: built from C, Python and text, run by the command's own code, with and without grants."""

from __future__ import annotations

import http.server
import importlib
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import aegis
from aegis import Aegis, Err, FilesystemCapability, LinkError, NetworkCapability, Outcome, Some, StdioCapability
from aegis.bindgen import generate
from aegis.wit.wasm_tools import read_wit
from tests.guests import catalogue
from tests.guests.catalogue import GUESTS
from tests.host.http.servers import raw_server, server

RUNTIME = Aegis(pooled=False)
_LOADED: dict[str, Any] = {}


def loaded(name: str) -> Any:
    """Return a built component, loaded once per process."""
    if name not in _LOADED:
        _LOADED[name] = RUNTIME.load_file(catalogue.built(name))
    return _LOADED[name]


def run(name: str, *args: str, **policy: Any) -> Outcome:
    return aegis.run(catalogue.built(name), args=args, fuel=None, timeout="30s", **policy)


# -- C and preview 1 -----------------------------------------------------------------------------------


def test_c_over_a_world_of_its_own() -> None:
    with RUNTIME.sandbox(loaded("c-text")) as sandbox:
        counting = sandbox.exports["aegis:c-text/counting"]
        counts = counting.count("one two\nthree")
        assert (counts.bytes_, counts.words, counts.lines) == (13, 3, 1)
        assert counting.reverse("abc") == "cba"
        with pytest.raises(Err) as caught:
            counting.reverse("né")
        assert caught.value == Err(1)
        assert counting.sum([2**62, 2**62, -1]) == 2**63 - 1
        assert sandbox.call("aegis:c-text/counting@1.0.0#sum", []) == 0


def test_javascript_over_the_same_world() -> None:
    with RUNTIME.sandbox(loaded("js-text")) as sandbox:
        counting = sandbox.exports["aegis:c-text/counting"]
        counts = counting.count("one two\nthree")
        assert (counts.bytes_, counts.words, counts.lines) == (13, 3, 1)
        assert counting.reverse("abc") == "cba"
        with pytest.raises(Err) as caught:
            counting.reverse("né")
        assert caught.value == Err(1)
        assert counting.sum([2**40, -1]) == 2**40 - 1


@pytest.mark.usual(every=2)
@pytest.mark.parametrize("name", ["hello", "cat", "ls", "wordcount"])
def test_a_preview_1_program_is_the_same_as_a_component(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some words\nin lines\n")
    (tmp_path / "folder").mkdir()
    module = GUESTS / "wordcount" / "wordcount.wat" if name == "wordcount" else catalogue.built(name)
    words = {"cat": ["/in/a.txt"], "ls": ["/in"], "wordcount": ["/in/a.txt"]}.get(name, [])
    for grant in (FilesystemCapability.read_only(f"{tmp_path}::/in"), FilesystemCapability()):
        first, second = (
            aegis.run(path, args=words, filesystem=grant) for path in (module, catalogue.built(f"{name}-component"))
        )
        assert (first.stdout, first.stderr) == (second.stdout, second.stderr)
        # A component's exit has no number: the result of ``run`` only says that it failed.
        assert bool(first.exit_code) == bool(second.exit_code)


INPUTS: list[tuple[str, list[str], bytes]] = [
    ("sha256", [], bytes(range(256)) * 500),
    ("sha256", ["/in/none"], b""),
    ("lz", ["c"], b"some text, some text, some more text" * 100),
    ("lz", ["d"], b"not what it made"),
    ("interp", [], b": square dup * ; 12 square . cr"),
    ("interp", [], b"1 0 / nonsense"),
    ("nbody", ["1000"], b""),
    ("sieve", ["100000"], b""),
    ("sieve", ["10000001"], b""),
]


@pytest.mark.usual(every=3)
@pytest.mark.parametrize(("name", "words", "octets"), INPUTS, ids=[f"{n}-{' '.join(w)}" for n, w, _ in INPUTS])
def test_a_preview_1_program_reads_and_computes_the_same(name: str, words: list[str], octets: bytes) -> None:
    given = StdioCapability(stdin=octets)
    first, second = (
        aegis.run(catalogue.built(guest), args=words, stdio=given) for guest in (name, f"{name}-component")
    )
    assert first.stdout + first.stderr
    assert (first.stdout, first.stderr) == (second.stdout, second.stderr)
    assert bool(first.exit_code) == bool(second.exit_code)


# -- Python: a command ---------------------------------------------------------------------------------


def test_a_python_command_has_nothing_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("secret\n")
    outcome = run("py-hello", "cat", str(tmp_path / "file"))
    assert outcome.exit_code == 0
    assert b"secret" not in outcome.stdout
    assert outcome.stdout.startswith(b"hello cat ")
    assert outcome.stdout.rstrip().endswith(b"nobody\n" + f"{tmp_path}/file: No such file or directory".encode())


def test_a_python_command_with_its_grants(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("granted\n")
    files = FilesystemCapability.read_only(f"{tmp_path}::/in")
    assert b"granted" in run("py-hello", "cat", "/in/file", filesystem=files).stdout
    denied = run("py-hello", "write", "/in/file", filesystem=files)
    assert denied.status == "trap"
    assert b"PermissionError" in denied.stderr
    writing = FilesystemCapability.read_write(f"{tmp_path}::/in")
    assert run("py-hello", "write", "/in/new", filesystem=writing).exit_code == 0
    assert (tmp_path / "new").read_text() == "written\n"


def test_a_python_command_reads_its_input_and_stand_in_clock() -> None:
    assert b"TEXT" in run("py-hello", "stdin", stdio=StdioCapability(stdin=b"text")).stdout
    assert run("py-hello", "clock").stdout.endswith(b"True 8\n")
    assert run("py-hello", "fail").exit_code == 1


# -- Python: the network -------------------------------------------------------------------------------


def echo(connection: socket.socket) -> None:
    """Send all data back until the other side has sent its last byte."""
    while data := connection.recv(65536):
        connection.sendall(data)


def echo_server() -> Any:
    return raw_server(echo)


def network(*allow: str, listen: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"network": NetworkCapability(allow=allow, listen=listen)}


def test_a_connection_needs_its_rule() -> None:
    with echo_server() as port:
        denied = run("py-net", "client", "127.0.0.1", str(port))
        assert denied.stdout.startswith(b"refused: ")
        assert denied.usage.denials == 1
        allowed = run("py-net", "client", "127.0.0.1", str(port), **network(f"tcp://127.0.0.1:{port}"))
        assert allowed.stdout == b"got b'ping'\n"


def test_a_name_needs_a_rule_and_so_does_its_address() -> None:
    with echo_server() as port:
        by_name = run("py-net", "client", "localhost", str(port), **network(f"tcp://localhost:{port}"))
        assert by_name.stdout.startswith(b"refused: ")
        by_class = run("py-net", "client", "localhost", str(port), **network(f"tcp://local:{port}"))
        assert by_class.stdout == b"got b'ping'\n"


def test_ten_megabytes_there_and_back() -> None:
    with echo_server() as port:
        outcome = run("py-net", "bulk", "127.0.0.1", str(port), "10000000", **network(f"local:{port}"))
        assert outcome.stdout == b"intact True\n"


def test_a_server_needs_its_rule() -> None:
    denied = run("py-net", "server", "127.0.0.1", "0")
    assert denied.stdout.startswith(b"refused: ")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    replies: list[bytes] = []

    def talk(message: str) -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"shout")
            replies.append(connection.recv(100))

    policy = network(listen=(f"tcp://127.0.0.1:{port}",))
    runtime = Aegis(pooled=False, fuel=None, timeout="300s", **policy)  # with an observer, it is compiled again
    component = runtime.load_file(catalogue.built("py-net"))
    watcher = Watcher("listening", talk)
    with runtime.sandbox(
        component, args=("py-net", "server", "127.0.0.1", str(port)), subscribers=[watcher]
    ) as sandbox:
        outcome = sandbox.run(aegis.runtime.entry_point(component))
    watcher.thread.join(10)
    assert outcome.exit_code == 0, outcome
    assert replies == [b"SHOUT"]


class Watcher:
    """A server that writes once the guest has asked for a connection, when the guest is certain to listen."""

    def __init__(self, word: str, talk: Any) -> None:
        self.thread = threading.Thread(target=talk, args=(word,), daemon=True)
        self.begun = False

    def __call__(self, event: Any) -> None:
        name = getattr(event, "name", "")
        if not self.begun and getattr(event, "kind", "") == "host_function_called" and "finish-listen" in name:
            self.begun = True
            self.thread.start()


def test_each_datagram_needs_its_rule() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(20)
        port = peer.getsockname()[1]
        assert run("py-net", "datagram", "127.0.0.1", str(port)).stdout.startswith(b"refused: ")

        def answer() -> None:
            data, sender = peer.recvfrom(100)
            peer.sendto(data.upper(), sender)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        outcome = run("py-net", "datagram", "127.0.0.1", str(port), **network(f"udp://127.0.0.1:{port}"))
        thread.join(20)
        assert outcome.stdout == b"got b'PING'\n"


def test_urllib_fetches_allowed_urls() -> None:
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"the page")

        def log_message(self, *words: Any) -> None:
            """Log nothing."""

    pages = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=pages.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        port = str(pages.server_port)
        assert run("py-net", "fetch", "127.0.0.1", port, **network(f"local:{port}")).stdout == b"200 the page\n"
        assert b"refused" in run("py-net", "fetch", "127.0.0.1", port, **network("local:1")).stdout
    finally:
        pages.shutdown()
        pages.server_close()
        thread.join()


def test_a_request_through_wasi_http_needs_its_rule() -> None:
    with server() as port:
        url = f"http://127.0.0.1:{port}/page"
        denied = run("py-http", "get", url)
        assert denied.stdout == b"refused: ErrorCode_HttpRequestDenied\n"
        assert denied.usage.denials == 1
        got = run("py-http", "get", url, **network(f"http://127.0.0.1:{port}"))
        assert got.stdout == b"200 hellohellohello [('x-trailer', b'done')]\n"
        posted = run("py-http", "post", url, "some", "words", **network(f"local:{port}"))
        assert posted.stdout == b"201 some words []\n"


# -- Python: a library over a world of its own ----------------------------------------------------------


@pytest.fixture(scope="module")
def kv(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The bindings of guests/py-kv/kv.wit, generated and imported."""
    folder = tmp_path_factory.mktemp("bindings")
    document = read_wit(str(GUESTS / "py-kv" / "kv.wit"))
    for name, text in generate(document, "plugin", package="kv_bindings").items():
        target = folder / "kv_bindings" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module("kv_bindings")
    finally:
        sys.path.remove(str(folder))


def store_of(kv: ModuleType) -> tuple[Any, list[str]]:
    """Return an implementation of the imported store, and the list of its events."""
    types = importlib.import_module("kv_bindings.acme_kv_store")
    log: list[str] = []

    class Bucket:
        def __init__(self, name: str) -> None:
            self.name = name
            self.held: dict[str, Any] = {}
            log.append(f"open {name}")

        def get(self, key: str) -> bytes | None:
            if key == "forbidden":
                raise Err(types.ErrorDenied("by the host"))
            entry = self.held.get(key)
            return None if entry is None else entry.value

        def set_(self, entry: Any) -> None:
            assert type(entry) is types.Entry
            self.held[entry.key] = entry

        def drop_(self) -> None:
            """Do nothing."""

        @staticmethod
        def open_all(names: list[str]) -> list[Any]:
            return [Bucket(name) for name in names]

        def __drop__(self) -> None:
            log.append(f"drop {self.name}")

    made = type("Store", (types.Host,), {"Bucket": Bucket, "scan": lambda s, of: None, "merge": lambda s, a, b: None})
    return made(), log


def test_typed_bindings_both_ways(kv: Any) -> None:
    types = importlib.import_module("kv_bindings.acme_kv_store")
    store, log = store_of(kv)
    said: list[Any] = []

    class Functions:
        def tell(self, how: Any, what: str) -> None:
            said.append((how, what))

    runtime = Aegis(pooled=False, fuel=None, timeout="30s")
    component = runtime.load_file(catalogue.built("py-kv"))
    with runtime.sandbox(component, imports=kv.imports(store=store, functions=Functions())) as sandbox:
        plugin = kv.Plugin(sandbox)
        with plugin.store.Bucket("one") as bucket:
            bucket.set_(types.Entry("a", b"x", Some(None)))
            assert (bucket.get("a"), bucket.get("b")) == (b"x", None)
            for key, error in (("forbidden", types.ErrorDenied("by the host")),):
                with pytest.raises(Err) as caught:
                    bucket.get(key)
                assert caught.value.value == error
            with pytest.raises(Err) as caught:
                bucket.set_(types.Entry("", b"", None))
            assert caught.value.value == types.ErrorDenied("a key is never empty")
            cursor = plugin.store.scan(bucket)
            assert [cursor.next().key for _ in range(3)] == ["a", "b", "forbidden"]
            assert cursor.next() is None
            first, second = plugin.store.Bucket.open_all(["p", "q"])
            assert plugin.store.merge(bucket, first) == (3, Err(types.ErrorMissing()))
            second.drop()
        entry = types.Entry("k", b"to be or not to be", None)
        assert plugin.summary([entry], kv.Verbosity.LOUD) == "LOUD: 1 entries, 4 words, first be"
        with pytest.raises(Err, match="nothing to summarise"):
            plugin.summary([], kv.Verbosity.QUIET)
    assert said[0] == (kv.Verbosity.LOUD, "set a")
    assert log[:3] == ["open one", "open p", "open q"]
    assert sorted(log[3:]) == ["drop one", "drop p", "drop q"]


def test_all_missing_methods_of_an_object_are_listed_at_once() -> None:
    class Half:
        class Bucket:
            def __init__(self) -> None:
                """Take no arguments, although the constructor has one."""

            def get(self, key: str) -> None:
                """Return nothing, although a result is required."""

        def scan(self, of: Any, too_much: Any) -> None:
            """Take too many arguments."""

    with pytest.raises(LinkError) as caught:
        RUNTIME.sandbox(loaded("py-kv"), imports={"acme:kv/store": Half(), "tell": "not a function"})
    message = str(caught.value)
    for fault in (
        "Bucket: the component passes 1 value", "no Bucket.set_ for [method]bucket.set", "no Bucket.open_all for",
        "no merge for merge", "scan: the component passes 1 value, but it takes (of: 'Any', too_much: 'Any')",
        "tell is a str, not a function",
    ):  # fmt: skip
        assert fault in message


def test_an_exception_of_the_host_is_a_host_error() -> None:
    class Broken:
        class Bucket:
            def __init__(self, name: str) -> None:
                raise RuntimeError("no buckets today")

            get = set_ = drop_ = open_all = lambda self, *values: None

        scan = merge = lambda self, *values: None

    with RUNTIME.sandbox(
        loaded("py-kv"), imports={"acme:kv/store": Broken(), "tell": lambda how, what: None}
    ) as sandbox:
        with pytest.raises(aegis.HostError, match="no buckets today") as caught:
            sandbox.exports["acme:kv/store"].Bucket("one")
        assert isinstance(caught.value.__cause__, RuntimeError)
        assert sandbox.state == "poisoned"


def test_a_missing_import_traps_when_that_was_asked_for() -> None:
    with pytest.raises(LinkError, match=r"nothing provides 2 imports: acme:kv/store@1\.2\.0"):
        RUNTIME.sandbox(loaded("py-kv"))
    with RUNTIME.sandbox(loaded("py-kv"), trap_missing=True) as sandbox:
        assert sandbox.call("ping") is None
        outcome = sandbox.run("acme:kv/store#[constructor]bucket", "one")
        assert outcome.status == "trap"
        assert "which nothing provides" in str(outcome.error)
