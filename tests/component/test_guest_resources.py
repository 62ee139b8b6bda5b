"""Resources that the guest implements, held by the embedder: ``guests/components/counter.wat``, and destructors."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from aegis import (
    Aegis,
    AegisError,
    CallError,
    DeadlineExceeded,
    GuestTrap,
    HostError,
    OutOfFuel,
    QuotaExceeded,
    SandboxStateError,
)
from tests.guests.catalogue import GUESTS

COUNTERS = "test:counters/counters"
RUNTIME = Aegis(cache=False, pooled=False)


@pytest.fixture(scope="module")
def component() -> Any:
    return RUNTIME.load_file(GUESTS / "components" / "counter.wat")


@pytest.fixture
def sandbox(component: Any) -> Iterator[Any]:
    with RUNTIME.sandbox(component) as made:
        yield made


@pytest.fixture
def counters(sandbox: Any) -> Any:
    return sandbox.exports[COUNTERS]


# -- the guest's own ----------------------------------------------------------------------------------


def test_a_constructor_a_method_and_a_static(counters: Any) -> None:
    assert counters.Counter.live() == 0
    one, two = counters.Counter(5), counters.Counter(2**32 - 1)
    assert (one.increment(3), one.increment(4)) == (8, 12)
    assert two.increment(1) == 0, "as u32 arithmetic has it"
    assert counters.Counter.live() == 2
    assert isinstance(one, counters.Counter)
    assert "Counter" in repr(type(one))


def test_the_same_by_name(sandbox: Any) -> None:
    counters = sandbox.exports[COUNTERS]
    handle = sandbox.call(f"{COUNTERS}@1.0.0#[constructor]counter", 1)
    assert sandbox.call(f"{COUNTERS}#[method]counter.increment", handle, 2) == 3
    assert sandbox.call(f"{COUNTERS}#[static]counter.live") == 1
    assert type(handle) is counters.Counter


def test_dropping_runs_the_destructor_once(counters: Any) -> None:
    counter = counters.Counter(1)
    counter.drop()
    assert counters.Counter.live() == 0
    counter.drop()
    assert counters.Counter.live() == 0


def test_a_handle_is_dropped_at_the_end_of_its_block(counters: Any) -> None:
    with counters.Counter(1) as counter:
        assert counters.Counter.live() == 1
    assert counters.Counter.live() == 0
    with pytest.raises(KeyError), counters.Counter(1):
        raise KeyError
    assert counters.Counter.live() == 0
    with counters.Counter(1) as counter:
        counter.drop()


@pytest.fixture
def wrong(sandbox: Any, counters: Any, component: Any) -> Iterator[dict[str, Any]]:
    """Handles and other values that ``larger`` must reject."""
    dropped, moved = counters.Counter(1), counters.Counter(1)
    dropped.drop()
    counters.Counter(1).merge(moved)
    with RUNTIME.sandbox(component) as other:
        foreign = other.exports[COUNTERS].Counter(1)
        yield {
            "dropped": dropped, "moved": moved, "foreign": foreign, "none": None, "number": 7, "class": counters.Counter
        }  # fmt: skip


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("dropped", "the handle was dropped, or was moved into the guest by an earlier call"),
        ("moved", "the handle was dropped, or was moved into the guest by an earlier call"),
        ("foreign", "the handle belongs to another sandbox, or to the guest before its reset"),
        ("none", "expected a handle of the guest's resource, not NoneType"),
        ("number", "expected a handle of the guest's resource, not int"),
        ("class", "expected a handle of the guest's resource, not type"),
    ],
)
def test_an_invalid_handle_is_refused_and_the_guest_survives(
    sandbox: Any, counters: Any, wrong: dict[str, Any], which: str, message: str
) -> None:
    good, bad = counters.Counter(2), wrong[which]
    live = counters.Counter.live()
    for arguments in ((good, bad), (bad, good), (bad, bad)):
        with pytest.raises(CallError, match=message):
            counters.larger(*arguments)
    with pytest.raises(CallError, match=message):
        good.merge(bad)
    assert sandbox.state == "ready"
    assert counters.Counter.live() == live
    assert good.increment(0) == 2


def test_methods_of_a_dropped_handle_are_refused(counters: Any) -> None:
    counter = counters.Counter(1)
    counter.drop()
    with pytest.raises(CallError, match="the handle was dropped"):
        counter.increment(1)


def test_an_owned_handle_goes_to_the_guest(counters: Any) -> None:
    one, two = counters.Counter(10), counters.Counter(5)
    assert one.merge(two) == 15
    assert counters.Counter.live() == 1, "the guest dropped what it was given"
    two.drop()
    assert counters.Counter.live() == 1
    with pytest.raises(CallError, match="moved into the guest"):
        one.merge(two)


def test_no_call_moves_a_handle_that_it_also_uses(sandbox: Any, counters: Any) -> None:
    one = counters.Counter(3)
    with pytest.raises(CallError, match="given away in a call that uses it twice"):
        one.merge(one)
    assert (sandbox.state, one.increment(0)) == ("ready", 3)
    assert not counters.larger(one, one), "to borrow twice is well"


def test_arguments_that_do_not_fit_leave_handles_with_their_owner(sandbox: Any, counters: Any) -> None:
    one = counters.Counter(3)
    for by in (-1, 2**32, "1", None, 1.5):
        with pytest.raises(CallError):
            one.increment(by)
    with pytest.raises(CallError):
        one.merge()
    assert (sandbox.state, one.increment(1)) == ("ready", 4)


def test_handles_before_a_reset_are_refused_after_it(sandbox: Any, counters: Any) -> None:
    before = counters.Counter(1)
    sandbox.reset()
    fresh = sandbox.exports[COUNTERS]
    with pytest.raises(CallError):
        fresh.larger(before, fresh.Counter(1))
    before.drop()
    assert fresh.Counter.live() == 1


def test_a_handle_outlives_its_sandbox_without_harm(component: Any) -> None:
    with RUNTIME.sandbox(component) as sandbox:
        counter = sandbox.exports[COUNTERS].Counter(1)
    with pytest.raises(SandboxStateError):
        counter.increment(1)
    counter.drop()
    counter.drop()


def test_handles_that_are_forgotten_do_no_harm(component: Any) -> None:
    with RUNTIME.sandbox(component) as sandbox:
        counters = sandbox.exports[COUNTERS]
        for n in range(200):
            counters.Counter(n)
        gc.collect()
        assert counters.Counter(1).increment(1) == 2


def test_handles_held_by_the_embedder_are_counted(component: Any) -> None:
    runtime = Aegis(cache=False, pooled=False, handles=10)
    with runtime.sandbox(runtime.load_file(GUESTS / "components" / "counter.wat")) as sandbox:
        counters = sandbox.exports[COUNTERS]
        held = [counters.Counter(n) for n in range(10)]
        for n in range(5):
            held.pop().drop()
            held.append(counters.Counter(n))
        assert held[0].merge(held.pop()) == 4
        held.append(counters.Counter(0))
        with pytest.raises(QuotaExceeded) as caught:
            counters.Counter(10)
        assert (caught.value.limit, caught.value.used, caught.value.allowed) == ("handles", 10, 10)
        assert sandbox.state == "poisoned"


# -- destructors --------------------------------------------------------------------------------------


def destroying(body: str) -> str:
    """Return a component with a resource whose destructor has this body; ``go`` calls the host in between."""
    return f"""(component
      (import "f" (func $f))
      (core func $f (canon lower (func $f)))
      (core module $d (import "" "f" (func $f)) (func (export "dtor") (param i32) {body}))
      (core instance $d (instantiate $d (with "" (instance (export "f" (func $f))))))
      (type $own (resource (rep i32) (dtor (core func $d "dtor"))))
      (core func $new (canon resource.new $own))
      (core module $m
        (import "" "new" (func $new (param i32) (result i32)))
        (import "" "f" (func $f))
        (func (export "make") (result i32) (call $new (i32.const 5)))
        (func (export "rep") (param i32) (result i32) (local.get 0))
        (func (export "go") (call $f)))
      (core instance $m (instantiate $m (with "" (instance (export "new" (func $new)) (export "f" (func $f))))))
      (func $make (result (own $own)) (canon lift (core func $m "make")))
      (func $rep (param "self" (borrow $own)) (result u32) (canon lift (core func $m "rep")))
      (component $shape
        (import "r" (type $r (sub resource)))
        (import "make" (func $make (result (own $r))))
        (import "rep" (func $rep (param "self" (borrow $r)) (result u32)))
        (export $thing "thing" (type $r))
        (export "make" (func $make) (func (result (own $thing))))
        (export "[method]thing.rep" (func $rep) (func (param "self" (borrow $thing)) (result u32))))
      (instance $out (instantiate $shape (with "r" (type $own)) (with "make" (func $make)) (with "rep" (func $rep))))
      (export "test:things/things" (instance $out))
      (func (export "go") (canon lift (core func $m "go"))))"""


@pytest.mark.parametrize(
    ("body", "error"),
    [("unreachable", GuestTrap), ("(loop $again (br $again))", OutOfFuel), ("(call $f)", HostError)],
    ids=["traps", "spins", "calls a host function that fails"],
)
def test_a_destructor_that_fails_ends_its_guest(body: str, error: type[AegisError]) -> None:
    runtime = Aegis(cache=False, pooled=False, fuel=1_000_000)
    with runtime.sandbox(runtime.load_wat(destroying(body)), imports={"f": lambda: 1 // 0}) as sandbox:
        thing = sandbox.exports["test:things/things"].make()
        with pytest.raises(error):
            thing.drop()
        assert sandbox.state == "poisoned"
        thing.drop()
        sandbox.reset()
        assert sandbox.exports["test:things/things"].make().rep() == 5


@pytest.mark.usual("False")
@pytest.mark.parametrize("threaded", [False, True])
def test_the_deadline_holds_in_a_destructor(threaded: bool) -> None:
    runtime = Aegis(cache=False, pooled=False, fuel=None, timeout=2)  # a busy machine takes a part of it for `make`
    ended: list[BaseException] = []

    def drop() -> None:
        try:
            thing.drop()
        except DeadlineExceeded as error:
            ended.append(error)

    component = runtime.load_wat(destroying("(loop $again (br $again))"))
    with runtime.sandbox(component, imports={"f": lambda: None}) as sandbox:
        thing = sandbox.exports["test:things/things"].make()
        if threaded:
            thread = threading.Thread(target=drop)
            thread.start()
            thread.join()
        else:
            drop()
        assert (len(ended), sandbox.state) == (1, "poisoned")


def test_a_destructor_may_call_the_host_which_may_not_call_back() -> None:
    reported: list[str] = []

    def back() -> None:
        for attempt in (lambda: sandbox.call("go"), lambda: other.drop(), lambda: other.rep()):
            with pytest.raises(SandboxStateError):
                attempt()
            reported.append("refused")

    with RUNTIME.sandbox(RUNTIME.load_wat(destroying("(call $f)")), imports={"f": back}) as sandbox:
        things = sandbox.exports["test:things/things"]
        thing, other = things.make(), things.make()
        thing.drop()
        assert (reported, sandbox.state, other.rep()) == (["refused"] * 3, "ready", 5)
        sandbox.call("go")
        assert len(reported) == 6
