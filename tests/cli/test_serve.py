"""``aegis serve``: the address, requests on loopback, the options, and the end by signals."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.cli.command import COMMAND, ROOT, aegis
from tests.cli.schema import faults
from tests.guests import catalogue
from tests.host.http.servers import server

HANDLER = "py-handler"
_SECONDS = 120


class Running:
    """A server under test: its process, its address, and its output after its end."""

    def __init__(self, process: subprocess.Popen[bytes], first: bytes) -> None:
        self.process, self.first = process, first
        self.err = b""

    def connection(self, address: str) -> http.client.HTTPConnection:
        host, port = urlsplit(address).hostname, urlsplit(address).port
        assert host is not None
        return http.client.HTTPConnection(host, port, timeout=_SECONDS)

    @property
    def address(self) -> str:
        return self.first.decode().removeprefix("listening on ").strip()

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        with closing(self.connection(self.address)) as made:
            made.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            answer = made.getresponse()
            return answer.status, answer.read()

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        _, self.err = self.process.communicate(timeout=_SECONDS)
        return self.process.returncode


@contextmanager
def serving(*words: object, guest: str = HANDLER) -> Iterator[Running]:
    """Run ``aegis serve`` on a free port, and end it by SIGTERM."""
    line = ["serve", "--address=127.0.0.1:0", *map(str, words), str(catalogue.built(guest))]
    process = subprocess.Popen([*COMMAND, *line], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    try:
        assert process.stdout is not None
        running = Running(process, process.stdout.readline())
        assert running.first, process.communicate()[1]
        yield running
        if process.returncode is None:
            assert running.end() == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("guest", ["py-handler", "py-async-handler"])
def test_requests_are_answered_until_a_signal_comes(guest: str) -> None:
    with serving(guest=guest) as running:
        assert running.first.startswith(b"listening on http://127.0.0.1:")
        assert running.get("/hello") == (200, b"hello\n")
        with closing(running.connection(running.address)) as made:
            sent = bytes(range(256)) * 4096
            made.request("POST", "/echo", sent)
            assert made.getresponse().read() == sent
        assert running.get("/trap") == (500, b"500 Internal Server Error\n")
        with pytest.raises(http.client.IncompleteRead):
            running.get("/late-trap")
        assert running.end(signal.SIGINT) == 0
    lines = running.err.decode().splitlines()
    assert [line.split(" ms: ")[1] for line in lines if line.startswith("GET /trap 500")] == [
        "the guest trapped: an unreachable instruction was executed in abort"
    ]
    assert not any(line.startswith("GET /hello") for line in lines)
    assert "ASGI" not in running.err.decode()


def test_isolated_guests_serve_too() -> None:
    with serving("--isolate", "-v") as running:
        assert [running.get("/count") for _ in range(2)] == [(200, b"1\n")] * 2
        assert running.end() == 0
    assert sum(line.startswith("GET /count 200 ") for line in running.err.decode().splitlines()) == 2


def test_the_network_is_granted_by_the_options_of_run() -> None:
    with server() as port:
        place = f"127.0.0.1:{port}"
        with serving() as running:
            assert running.get("/fetch", x_target=place) == (502, b"ErrorCode_HttpRequestDenied\n")
            assert running.end() == 0
        denied = f"denied: request http://{place} (network): grant it with --allow-net 'GET http://{place}'"
        assert denied in running.err.decode().splitlines()
        with serving(f"--allow-net=GET http://{place}") as running:
            assert running.get("/fetch", x_target=place) == (200, b"200\n")


def test_sandboxes_are_shared_when_the_line_says_so() -> None:
    with serving("--requests-per-sandbox=1000") as running:
        # A request may come before the sandbox of the one before is free, but not each time.
        assert any(running.get("/count") == (200, b"2\n") for _ in range(500))


def test_a_signal_completes_the_requests_under_way() -> None:
    with serving("--timeout=2s") as running, closing(running.connection(running.address)) as made:
        made.request("GET", "/loop")
        while running.get("/hello")[0] != 200:
            pass
        running.process.send_signal(signal.SIGTERM)
        assert made.getresponse().status == 504
        assert running.process.wait(_SECONDS) == 0


def test_too_many_requests_at_once_are_refused() -> None:
    with (
        serving("--max-concurrent=1", "--timeout=30s") as running,
        closing(running.connection(running.address)) as made,
    ):
        made.request("GET", "/late-loop")
        assert made.getresponse().status == 200
        assert running.get("/hello") == (503, b"503 Service Unavailable\n")
        made.close()  # the client is gone, which ends the guest
        while running.get("/hello")[0] == 503:
            pass


def test_the_address_is_a_document_in_json() -> None:
    with serving("--format=json-compact") as running:
        document = json.loads(running.first)
        assert faults(document) == []
        assert document["command"] == "serve"
        assert document["pid"] == running.process.pid
        made: Any = running.connection(document["address"])
        with closing(made):
            made.request("GET", "/trap")
            assert made.getresponse().status == 500
        assert running.end() == 0
    assert running.err == b""


def test_a_line_that_cannot_serve_says_why() -> None:
    guest = catalogue.built(HANDLER)
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        for words, code, message in (
            ((f"--address=127.0.0.1:{port}", guest), 125, f"cannot listen at 127.0.0.1:{port}: address already in use"),
            (("--address=8080", guest), 125, "--address '8080' is no address: write HOST:PORT"),
            (("--address=127.0.0.1:65536", guest), 125, "is no address"),
            (("--max-concurrent=0", guest), 125, "--max-concurrent 0 is out of range"),
            (("--requests-per-sandbox=x", guest), 125, "--requests-per-sandbox x is out of range"),
            (("guests/add/add.wat",), 126, "a core module serves no HTTP"),
            (("gone.wasm",), 127, "gone.wasm: no such file"),
            ((), 2, "Missing argument 'COMPONENT'"),
        ):
            address = () if str(words[:1]).find("--address") > 0 else ("--address=127.0.0.1:0",)
            done = aegis("serve", *address, *words)
            assert done.code == code, done
            assert message in done.err
            assert done.err.count("\n") == 1


def test_a_missing_server_is_named_with_its_extra(tmp_path: Path) -> None:
    (tmp_path / "uvicorn.py").write_text("raise ImportError")
    line = "import sys; sys.path.insert(0, sys.argv.pop(1)); from aegis.cli import main; main()"
    done = subprocess.run(
        [COMMAND[0], "-P", "-c", line, str(tmp_path), "serve", str(catalogue.built(HANDLER))],
        capture_output=True, text=True, timeout=_SECONDS, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 125
    assert done.stderr == "error: aegis serve needs the extra serve: pip install 'aegis-wasm[serve]'\n"


def test_many_slow_clients_do_not_hold_others_up() -> None:
    """A client that sends its request a byte at a time waits for itself alone."""
    with serving("--max-concurrent=4") as running:
        place = urlsplit(running.address)
        slow = [socket.create_connection((place.hostname, place.port)) for _ in range(20)]
        try:
            for one in slow:
                one.sendall(b"POST /size HTTP/1.1\r\nhost: a")
            results: list[tuple[int, bytes]] = []
            threads = [threading.Thread(target=lambda: results.append(running.get("/hello"))) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(_SECONDS)
            assert results == [(200, b"hello\n")] * 4
        finally:
            for one in slow:
                one.close()
