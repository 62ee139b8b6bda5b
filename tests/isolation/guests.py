"""The engine and guests in a confined process: ``python -m tests.isolation.guests``, ordered like the attacks."""

from __future__ import annotations

import hashlib  # noqa: F401 (behind Landlock nothing can be imported)
import importlib
import os
import pkgutil
import threading
import time
from typing import Any

import aegis
from aegis import Aegis, FilesystemCapability, Outcome, StdioCapability
from aegis.isolation.confine import LAYERS, Confinement, confine
from aegis.sandbox.entry_points import entry_point
from tests.isolation.attacks import attack, main

for _found in pkgutil.walk_packages(aegis.__path__, "aegis."):
    if not _found.name.endswith("__main__") and not _found.name.startswith("aegis.cli"):
        importlib.import_module(_found.name)

MODULE = """(module
  (memory (export "memory") 1 100)
  (data (i32.const 0) "data")
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "grow") (result i32) (memory.grow (i32.const 10)))
  (func (export "beyond") (result i32) (i32.load (i32.const 70000)))
  (func $deep (export "deep") (call $deep) (call $deep))
  (func (export "spin") (loop (br 0)))
  (func (export "divide") (result i32) (i32.div_s (i32.const 1) (i32.const 0))))"""
COMPONENT = """(component
  (core module $m (memory 1)
    (func (export "twice") (param i32) (result i32) (i32.add (local.get 0) (local.get 0)))
    (func (export "beyond") (result i32) (i32.load (i32.const 70000))))
  (core instance $i (instantiate $m))
  (func (export "twice") (param "n" u32) (result u32) (canon lift (core func $i "twice")))
  (func (export "beyond") (result u32) (canon lift (core func $i "beyond"))))"""


def runtime(**policy: Any) -> Aegis:
    """Return a runtime without a pool, whose stacks alone would exceed the limit, and without a cache."""
    return Aegis(pooled=False, **{"cache": False, **policy})


@attack
def core_module(order: dict[str, Any]) -> dict[str, Any]:
    """Compile, instantiate, call, and provoke every kind of trap."""
    engine = runtime(timeout="300ms", fuel=None)
    module = engine.load_wat(MODULE)
    ended = {}
    with engine.sandbox(module) as sandbox:
        ended["add"] = sandbox.call("add", 2, 3)
        ended["grow"] = sandbox.call("grow")
    for name in ("beyond", "deep", "spin", "divide"):
        with engine.sandbox(module) as sandbox:
            ended[name] = sandbox.run(name).status
    return ended


@attack
def component(order: dict[str, Any]) -> dict[str, Any]:
    engine = runtime()
    loaded = engine.load_wat(COMPONENT)
    with engine.sandbox(loaded) as sandbox:
        twice = sandbox.call("twice", 21)
    with engine.sandbox(loaded) as sandbox:
        return {"twice": twice, "beyond": sandbox.run("beyond").status}


@attack
def guest(order: dict[str, Any]) -> dict[str, Any]:
    """Run a built guest that was read before the confinement; policy and confinement both grant its tree."""
    policy = {"filesystem": FilesystemCapability.read_write(f"{here(order['tree'])}::.")} if "tree" in order else {}
    engine = runtime(stdio=StdioCapability(stdin=b"from stdin"), **policy)
    loaded = engine.load(GUESTS[order["guest"]])
    with engine.sandbox(loaded, args=("guest", *order["words"])) as sandbox:
        outcome: Outcome = sandbox.run(entry_point(loaded))
    return {"code": outcome.exit_code, "stdout": outcome.stdout.decode(), "status": outcome.status}


def here(path: str) -> str:
    """Return the path of a granted directory: a single granted one became the root."""
    return path if os.path.isdir(path) else "/"


@attack
def many_threads(order: dict[str, Any]) -> int:
    """Run sandboxes on Aegis threads, to test their stacks, signals and traps."""
    engine = runtime()
    module = engine.load_wat(MODULE)
    statuses: list[str] = []

    def work() -> None:
        with engine.sandbox(module) as sandbox:
            sandbox.call("add", 1, 2)
            statuses.append(sandbox.run("deep").status)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses.count("stack-exhausted")


@attack
def exceeds_memory(order: dict[str, Any]) -> str:
    """Run a guest that requests more memory than the process may have, although less than its own limit."""
    engine = runtime(memory="2GiB")
    module = engine.load_wat('(module (memory 1) (func (export "grow") (result i32) (memory.grow (i32.const 30000))))')
    with engine.sandbox(module) as sandbox:
        outcome = sandbox.run("grow")
        return f"{outcome.status} {outcome.value}"


GUESTS = {
    name: open(path, "rb").read()  # noqa: SIM115
    for name, path in (pair.split("=") for pair in os.environ.get("GUESTS", "").split(os.pathsep) if pair)
}


@attack
def measure(order: dict[str, Any]) -> float:
    """Return the time in milliseconds for applying all layers."""
    started = time.perf_counter()
    layers = confine(Confinement(keep_fds=(1, 2), data_bytes=1 << 30, cpu_seconds=60))
    assert len(layers) == len(LAYERS)
    return (time.perf_counter() - started) * 1000


if __name__ == "__main__":
    main()
