"""Minimise the input of a finding in bounded time, as long as it shows the same fault.

Inputs of the ABI fuzzer are shrunk by hypothesis, valid modules by ``wasm-tools shrink``, and all inputs finally by a
byte reducer that keeps section sizes consistent.
"""

from __future__ import annotations

import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from aegis.attack.bytewise import put_back, whole_sections
from aegis.attack.suspects import kills_process
from aegis.attack.tools import executable, run, scratch
from aegis.attack.triage import Fault
from aegis.attack.worker import Attack, attack_state, finding_of, input_of

__all__ = ["reduce_bytes", "shrink_finding"]

_NOT_SHRUNK = ("late", "left-behind")
"""Kinds of faults that take too long to check for each candidate."""
_CLIENT = """import socket, sys
asked = socket.socket(socket.AF_UNIX)
asked.connect(sys.argv[1])
asked.sendall(sys.argv[2].encode())
asked.shutdown(socket.SHUT_WR)
sys.exit(asked.recv(1) != b"y")
"""


def shrink_finding(attack: Attack, finding: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Return the finding with the smallest input that was found within ``seconds``."""
    one, fault = input_of(finding), Fault.of(finding)
    if fault.kind in _NOT_SHRUNK:
        return finding
    until = time.monotonic() + seconds
    kills = fault.kind in ("died", "hung")

    def shows(data: bytes) -> bool:
        if time.monotonic() >= until:
            return False
        tried = replace(one, data=data)
        if kills:
            return kills_process(attack, tried, fault.signature)
        return attack_state(attack).shows(tried, fault.signature)

    data = one.data
    if one.source == "liar":
        simple = _by_hypothesis(attack, finding, shows, until - seconds / 3)
        data = min(data, simple or data, key=len)
    if not kills and run(["validate", "--features", "all", "-"], data) is not None and data[4:8] == b"\1\0\0\0":
        data = _by_shrink(data, shows, until - seconds / 2) or data
    data = reduce_bytes(data, shows)
    made = finding_of(replace(one, data=data), fault, again=True, times=finding["times"])
    return {**made, "number": finding["number"], "size_found": finding["size"]}


def _by_hypothesis(
    attack: Attack, finding: dict[str, Any], shows: Callable[[bytes], bool], until: float
) -> bytes | None:
    from aegis.attack.abi_fuzzer import shrink_case

    return shrink_case(attack.seed, finding["number"], shows, until)


# -- wasm-tools shrink --------------------------------------------------------------------------------


def _by_shrink(data: bytes, shows: Callable[[bytes], bool], until: float) -> bytes | None:
    """Shrink a module with ``wasm-tools shrink``. Its predicate is a script that asks this process over a socket."""
    folder = scratch()
    address, client, predicate = folder / "ask", folder / "ask.py", folder / "predicate.sh"
    source, target = folder / "found.wasm", folder / "shrunk.wasm"
    client.write_text(_CLIENT)
    words = [sys.executable, "-ISB", str(client), str(address)]
    predicate.write_text(f'#!/bin/sh\nexec {" ".join(map(shlex.quote, words))} "$1"\n')
    predicate.chmod(0o700)
    source.write_bytes(data)
    smallest = [data]

    def asked(tried: bytes) -> bool:
        found = time.monotonic() < until and shows(tried)
        if found and len(tried) < len(smallest[0]):
            smallest[0] = tried
        return found

    with _PredicateServer(str(address), asked), suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            [executable(), "shrink", str(predicate), str(source), "-o", str(target), "--attempts", "500"],
            capture_output=True, timeout=max(1.0, until - time.monotonic()), check=False,
        )  # fmt: skip
    return smallest[0]


class _PredicateServer:
    """A Unix socket server: a client sends the path of a file, and receives ``y`` if the file shows the fault."""

    def __init__(self, address: str, shows: Callable[[bytes], bool]) -> None:
        with suppress(FileNotFoundError):
            (scratch() / "ask").unlink()
        self._socket, self._shows = socket.socket(socket.AF_UNIX), shows
        self._socket.bind(address)
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve, name="aegis-shrink")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exception: object) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                asked, _ = self._socket.accept()
            except OSError:
                return
            with asked, suppress(OSError):
                path = b"".join(iter(lambda: asked.recv(4096), b"")).decode()  # noqa: B023 - called at once
                with open(path, "rb") as file:
                    asked.sendall(b"y" if self._shows(file.read()) else b"n")


# -- bytes ---------------------------------------------------------------------------------------------


def reduce_bytes(data: bytes, shows: Callable[[bytes], bool]) -> bytes:
    """Return the smallest input found by removing byte ranges and zeroing bytes while ``shows`` remains true."""
    smaller_still = True
    while smaller_still:
        before = data
        data = _without_sections(data, shows)
        data = _without_pieces(data, shows)
        smaller_still = len(data) < len(before)
    return _plainer(data, shows)


def _without_sections(data: bytes, shows: Callable[[bytes], bool]) -> bytes:
    """Remove whole sections; shrink the contents of the others, and update their sizes."""
    for place in reversed(range(len(whole_sections(data)))):
        found = whole_sections(data)
        if place >= len(found):
            continue
        _, start, end = found[place]
        head = 8 if place == 0 else found[place - 1][2]
        without = data[:head] + data[end:]
        if shows(without):
            data = without
            continue
        whole = data

        def inside(inner: bytes, whole: bytes = whole, start: int = start, end: int = end) -> bytes:
            return put_back(whole, start, end, inner)

        inner = _without_pieces(whole[start:end], lambda tried, inside=inside: shows(inside(tried)))  # type: ignore[misc]
        data = inside(inner) if len(inner) < end - start else data
    return data


def _without_pieces(data: bytes, shows: Callable[[bytes], bool]) -> bytes:
    size = max(1, len(data) // 2)
    while True:
        at = 0
        while at < len(data):
            without = data[:at] + data[at + size :]
            if len(without) < len(data) and shows(without):
                data = without
            else:
                at += size
        if size == 1:
            return data
        size //= 2


def _plainer(data: bytes, shows: Callable[[bytes], bool]) -> bytes:
    for at, byte in _interesting(data):
        for plain in (0, 1):
            if plain < byte:
                tried = data[:at] + bytes([plain]) + data[at + 1 :]
                if shows(tried):
                    data = tried
                    break
    return data


def _interesting(data: bytes) -> Iterator[tuple[int, int]]:
    return ((at, byte) for at, byte in enumerate(data) if byte and at >= 8)
