"""The benchmark of the total memory limit: the cost of exact accounting against the engine's own limit.

Both sides are Aegis, in one run: ``exact_memory`` against the default. A program that does not need exact accounting
does not pay for it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench_components import Row, _in_turns, _on_a_thread

__all__ = ["PARTS"]

ROOT = Path(__file__).resolve().parent.parent
SIEVE = """(component
  (core module $m (memory 1)
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "sieve") (param $n i32) (result i32) (local $i i32) (local $j i32) (local $found i32)
      (if (i32.lt_u (i32.mul (memory.size) (i32.const 65536)) (local.get $n))
        (then (drop (memory.grow (i32.div_u (local.get $n) (i32.const 65536))))))
      (memory.fill (i32.const 0) (i32.const 0) (local.get $n))
      (local.set $i (i32.const 2))
      (loop $next
        (if (i32.eqz (i32.load8_u (local.get $i)))
          (then
            (local.set $found (i32.add (local.get $found) (i32.const 1)))
            (local.set $j (i32.add (local.get $i) (local.get $i)))
            (block $done
              (loop $mark
                (br_if $done (i32.ge_u (local.get $j) (local.get $n)))
                (i32.store8 (local.get $j) (i32.const 1))
                (local.set $j (i32.add (local.get $j) (local.get $i)))
                (br $mark)))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $next (i32.lt_u (local.get $i) (local.get $n))))
      local.get $found))
  (core instance $i (instantiate $m))
  (func (export "grow") (param "n" s32) (result s32) (canon lift (core func $i "grow")))
  (func (export "sieve") (param "n" u32) (result u32) (canon lift (core func $i "sieve"))))"""


def counted_memory(rounds: int) -> list[Row]:
    """Creation, calls, growth and computation, with every byte counted, on a worker thread and on the main one."""
    return [*_on_a_thread(lambda: _small("", rounds)), *_small(" (main thread)", rounds), *_large(rounds)]


def _row(what: str, measured: Callable[[], object], reference: Callable[[], object], count: int, rounds: int) -> Row:
    # _in_turns runs the second a tenth as often; a call of the same length on both sides needs the same count.
    pair = _in_turns(measured, lambda: [reference() for _ in range(10)], count, rounds)
    ratio = pair[0] / (pair[1] / 10)
    return Row(f"memory counted: {what}", pair[0], pair[1] / 10, ratio, "", None)


def _gated(row: Row, most: float) -> Row:
    return row._replace(gate=f"<= {most:g}x the time", met=row.ratio <= most)


def _small(where: str, rounds: int) -> list[Row]:
    import aegis

    rows = []
    exact, plain = (aegis.Aegis(cache=False, exact_memory=e, timeout="5m") for e in (True, False))
    one, other = exact.load_wat(SIEVE), plain.load_wat(SIEVE)

    def life(runtime: aegis.Aegis, component: object) -> Callable[[], object]:
        def made() -> None:
            with runtime.sandbox(component) as sandbox:  # type: ignore[arg-type]
                sandbox.call("grow", 1)

        return made

    rows.append(_row(f"create + grow + close{where}", life(exact, one), life(plain, other), 300, rounds))
    with exact.sandbox(one) as mine, plain.sandbox(other) as reference:
        pair = (lambda: mine.call("grow", 0)), (lambda: reference.call("grow", 0))
        rows.append(_row(f"a call that grows{where}", *pair, 2000, rounds))
        if not where:
            rows[0] = _gated(rows[0], 3)
            pair = (lambda: mine.call("sieve", 3_000_000)), (lambda: reference.call("sieve", 3_000_000))
            rows.append(_gated(_row("compute, a sieve", *pair, 1, rounds), 1.1))
    return rows


def _large(rounds: int) -> list[Row]:
    import aegis

    path = ROOT / "guests" / "build" / "py-hello.wasm"
    if not path.exists():
        return []
    exact, plain = (aegis.Aegis(exact_memory=e) for e in (True, False))
    one, other = exact.load_file(path), plain.load_file(path)
    pair = (
        (lambda: exact.sandbox(one, trap_missing=True).close()),
        (lambda: plain.sandbox(other, trap_missing=True).close()),
    )
    return [_row("create + close of an 18 MB Python component", *pair, 3, rounds)]


PARTS = (counted_memory,)
