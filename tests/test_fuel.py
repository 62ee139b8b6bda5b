"""Fuel is off by default: then only the deadline ends a guest. With a fuel limit, it is counted exactly."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aegis import Aegis, AegisError, Cancelled, DeadlineExceeded, GuestTrap, Limits, OutOfFuel, Policy
from aegis.engine.compile.config import EngineConfig
from aegis.engine.store.plan import ModulePlan
from aegis.errors import AegisInternalError
from aegis.observe import CollectingSubscriber, FuelConsumed
from tests.isolation.isolated import PLACES, runtime

_CORE = """
    (memory (export "memory") 1 20)
    (func $work (param $n i32) (result i32) (local $sum i32)
      (loop $again
        (local.set $sum (i32.add (local.get $sum) (local.get $n)))
        (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (br_if $again (local.get $n)))
      (local.get $sum))
    (func $spin (drop (memory.grow (i32.const 3))) (loop $again (br $again)))
    (func $trap unreachable)
    (export "work" (func $work)) (export "spin" (func $spin)) (export "trap" (func $trap))"""
_COMPONENT_CORE = f"""(component
  (import "f" (func $f))
  (core func $f (canon lower (func $f)))
  (core module $m (import "" "f" (func $f)) {_CORE}
    (func (export "calls") (call $f) (call $f) (call $spin)))
  (core instance $m (instantiate $m (with "" (instance (export "f" (func $f))))))
  (func (export "work") (param "n" u32) (result u32) (canon lift (core func $m "work")))
  (func (export "spin") (canon lift (core func $m "spin")))
  (func (export "trap") (canon lift (core func $m "trap")))
  (func (export "calls") (canon lift (core func $m "calls"))))"""
_PLAIN_COMPONENT = f"""(component
  (core module $m {_CORE})
  (core instance $m (instantiate $m))
  (func (export "work") (param "n" u32) (result u32) (canon lift (core func $m "work")))
  (func (export "spin") (canon lift (core func $m "spin")))
  (func (export "trap") (canon lift (core func $m "trap"))))"""
_CALLING = f"""(module (import "env" "f" (func $f)) {_CORE}
    (func (export "calls") (call $f) (call $f) (call $spin)))"""


def nothing() -> None:
    """A host function."""


GUESTS: dict[str, tuple[str, Any]] = {
    "module": (f"(module {_CORE})", None),
    "module that calls": (_CALLING, {"env": {"f": nothing}}),
    "component": (_PLAIN_COMPONENT, None),
    "component that calls": (_COMPONENT_CORE, {"f": nothing}),
}
pytestmark = pytest.mark.usual(one_of="place")
everywhere = pytest.mark.parametrize("place", PLACES)
every_guest = pytest.mark.parametrize("guest", GUESTS)


def box(place: str, guest: str, *, subscribers: Any = (), **policy: Any) -> Any:
    """Return a sandbox of a guest."""
    text, imports = GUESTS[guest]
    made = runtime(place, **policy)
    return made.sandbox(made.load_wat(text), imports=imports, subscribers=subscribers)


def ended(function: Callable[[], Any]) -> BaseException | None:
    try:
        function()
    except BaseException as error:
        return error
    return None


def on_a_thread(function: Callable[[], Any]) -> BaseException | None:
    """Return the error of a call from a thread other than the main one."""
    found: list[BaseException | None] = []
    worker = threading.Thread(target=lambda: found.append(ended(function)))
    worker.start()
    worker.join()
    return found[0]


# -- off -------------------------------------------------------------------------------------------------


def test_no_policy_limits_fuel_unless_it_says_so() -> None:
    assert Limits().fuel is None
    assert Policy().describe() == []
    assert Aegis.builder().with_fuel_limit(7).build().policy.limits.fuel == 7
    assert Aegis.builder().build().policy.limits.fuel is None


@everywhere
@every_guest
def test_by_default_fuel_is_not_counted(place: str, guest: str) -> None:
    seen = CollectingSubscriber()
    with box(place, guest, subscribers=[seen]) as sandbox:
        assert sandbox.call("work", 10) == 55
        outcome = sandbox.run("work", 4)
        assert (outcome.value, outcome.usage.fuel, sandbox.usage.fuel, sandbox.tally()[0]) == (10, None, None, None)
    assert not seen.of(FuelConsumed)


@everywhere
@every_guest
@pytest.mark.parametrize("run", [ended, on_a_thread], ids=["main thread", "another thread"])
def test_without_fuel_the_deadline_ends_a_guest_that_never_returns(
    place: str, guest: str, run: Callable[[Callable[[], Any]], BaseException | None]
) -> None:
    with box(place, guest, timeout="500ms") as sandbox:
        assert sandbox.call("work", 10) == 55
        error = run(lambda: sandbox.call("spin"))
        assert type(error) is DeadlineExceeded
        assert (error.limit, error.used, error.allowed, sandbox.state) == ("timeout", 0.5, 0.5, "poisoned")
        sandbox.reset()
        assert sandbox.call("work", 10) == 55


@everywhere
@every_guest
def test_without_fuel_a_trap_is_a_trap(place: str, guest: str) -> None:
    with box(place, guest) as sandbox:
        error = ended(lambda: sandbox.call("trap"))
        assert isinstance(error, GuestTrap)
        assert error.code == "unreachable"
        sandbox.reset()
        assert sandbox.call("work", 3) == 6


@everywhere
@every_guest
def test_without_fuel_a_call_can_be_cancelled(place: str, guest: str) -> None:
    with box(place, guest) as sandbox:

        def cancel_when_it_runs() -> None:
            while not sandbox._run.store.in_call():
                pass
            sandbox.cancel()

        canceller = threading.Thread(target=cancel_when_it_runs)
        canceller.start()
        error = ended(lambda: sandbox.call("spin"))
        canceller.join()
        assert type(error) is Cancelled
        assert sandbox.state == "poisoned"
        sandbox.reset()
        assert sandbox.call("work", 3) == 6


@everywhere
@pytest.mark.parametrize("guest", [name for name in GUESTS if "calls" in name])
def test_a_call_that_its_deadline_ends_reports_its_usage(place: str, guest: str) -> None:
    """A worker that has to be killed has left its counters. It is killed late here, to tolerate a loaded machine."""
    for timeout in (
        "200ms",
        "2s",
        "20s",
    ):  # a loaded machine needs more until the second host call
        with box(place, guest, timeout=timeout, isolation={"grace": "20s"}) as sandbox:
            usage = sandbox.run("calls").usage
        if usage.host_calls == 2:
            break
    assert (usage.host_calls, usage.peak_memory, usage.fuel) == (2, 4 * 65536, None)


# -- on --------------------------------------------------------------------------------------------------


@every_guest
def test_the_same_call_burns_the_same_fuel_everywhere_and_anew(guest: str) -> None:
    counted = set()
    for place in PLACES:
        with box(place, guest, fuel=1_000_000) as sandbox:
            counted |= {sandbox.run("work", 1000).usage.fuel for _ in range(3)}
            assert sandbox.tally()[0] in counted
            more = sandbox.run("work", 2000).usage.fuel
    (one,) = counted
    assert 3000 < one < 1.9 * one < more < 2.1 * one


@everywhere
@every_guest
@pytest.mark.parametrize("fuel", [None, 100_000])
def test_a_reader_reads_the_tally_until_the_sandbox_is_closed(place: str, guest: str, fuel: int | None) -> None:
    """Oracle: the tally itself, after calls that return, trap and grow the memory, and after the sandbox's end."""
    with box(place, guest, fuel=fuel, timeout="200ms") as sandbox:
        sandbox.call("work", 2)
        read = sandbox.tally_reader()
        assert read() == sandbox.tally()
        sandbox.call("work", 100)
        assert read() == sandbox.tally()
        assert ended(lambda: sandbox.call("spin")) is not None
        assert read() == sandbox.tally()
        assert read()[2] == 4 * 65536
        sandbox.reset()
        assert read() == sandbox.tally()
        read = sandbox.tally_reader()
        sandbox.call("work", 7)
        assert read() == sandbox.tally()
    assert read() == sandbox.tally()


@everywhere
@every_guest
@pytest.mark.parametrize("run", [ended, on_a_thread], ids=["main thread", "another thread"])
def test_with_fuel_a_guest_that_never_returns_runs_out_of_it(
    place: str, guest: str, run: Callable[[Callable[[], Any]], BaseException | None]
) -> None:
    with box(place, guest, fuel=50_000) as sandbox:
        for _ in range(20):
            sandbox.call("work", 1000)  # together above the limit, which applies to each
        error = run(lambda: sandbox.call("spin"))
        assert type(error) is OutOfFuel
        assert (error.limit, error.used, error.allowed) == ("fuel", 50_000, 50_000)


def test_one_artifact_runs_with_fuel_and_without_it() -> None:
    """Oracle: each runtime's own limits hold, whichever runtime compiled the module."""
    plain, fuelled = runtime("in-process"), runtime("in-process", fuel=1000)
    for maker in (plain, fuelled):
        module = maker.load_wat(f"(module {_CORE})")
        for _ in range(2):
            with plain.sandbox(module) as sandbox:
                assert sandbox.run("work", 10_000).usage.fuel is None
            with fuelled.sandbox(module) as sandbox:
                assert isinstance(sandbox.run("work", 10_000).error, OutOfFuel)


@pytest.mark.parametrize("pooled", [False, True])
def test_a_pool_of_many_sandboxes_serves_both_kinds(pooled: bool) -> None:
    runtimes = [Aegis(cache=False, pooled=pooled, **limits) for limits in ({}, {"fuel": 100_000})]  # type: ignore[arg-type]
    boxes = [made.sandbox(made.load_wat(f"(module {_CORE})")) for made in runtimes for _ in range(5)]
    assert [sandbox.call("work", 4) for sandbox in boxes] == [10] * 10
    assert [sandbox.run("work", 4).usage.fuel is None for sandbox in boxes] == [True] * 5 + [False] * 5
    for sandbox in boxes:
        sandbox.close()


# -- code ------------------------------------------------------------------------------------------------


@everywhere
@every_guest
def test_a_cache_keeps_code_with_fuel_and_code_without_it_apart(place: str, guest: str, tmp_path: Path) -> None:
    text, imports = GUESTS[guest]
    limits: tuple[dict[str, Any], ...] = ({}, {"fuel": 100_000})
    for cached in (False, True):
        for more in limits:
            made = runtime(place, cache=str(tmp_path / "cache"), **more)
            artifact = made.load_wat(text)
            assert artifact.cached is cached
            with made.sandbox(artifact, imports=imports) as sandbox:
                assert (sandbox.run("work", 4).usage.fuel is None) is (not more)
            if more:
                with made.sandbox(artifact, imports=imports) as sandbox:
                    assert isinstance(ended(lambda: sandbox.call("spin")), OutOfFuel)


def test_each_setting_that_changes_code_is_in_its_name() -> None:
    plain = EngineConfig(stack=1 << 19)
    kinds = [plain, EngineConfig(stack=1 << 19, fuel=True), plain.for_workers(), plain.with_count(),
             EngineConfig(stack=1 << 19, fuel=True).with_count(), plain.for_workers().with_count()]  # fmt: skip
    assert len({kind.fingerprint() for kind in kinds}) == len(kinds)
    assert EngineConfig(stack=1 << 19, pooled=True).fingerprint() == plain.fingerprint()


def test_code_for_workers_has_no_epoch_checks_unless_fuel_is_counted() -> None:
    for limits in (Limits(), Limits(fuel=5)):
        config = EngineConfig.from_limits(limits)
        assert (config.epochs, config.for_workers().epochs) == (True, limits.fuel is not None)
        assert config.for_workers().fuel is config.with_count().fuel is config.without_pool().fuel is config.fuel


@pytest.mark.parametrize("limits", [Limits(), Limits(fuel=5)])
def test_a_limit_of_fuel_and_code_that_does_not_count_it_never_meet(limits: Limits) -> None:
    module: Any = runtime("in-process").load_wat("(module)")
    other = EngineConfig(stack=limits.stack, fuel=limits.fuel is None)
    with pytest.raises(AegisInternalError):
        ModulePlan(module, other, limits)


def test_an_error_of_a_limit_is_of_the_limit_that_is_there() -> None:
    found = [
        type(ended(lambda: box("in-process", "module", **limits).call("spin")))  # noqa: B023
        for limits in ({"timeout": "50ms"}, {"fuel": 1000}, {"fuel": 1 << 60, "timeout": "50ms"})
    ]
    assert found == [DeadlineExceeded, OutOfFuel, DeadlineExceeded]
    assert all(issubclass(kind, AegisError) for kind in found)
