from __future__ import annotations

import dataclasses
import json

import pytest

from aegis import observe
from aegis.observe import EVENTS, CapabilityChecked, Custom, ErrorRaised, Event, GuestLogged, ModuleLoaded

SAMPLES: dict[type[Event], dict[str, object]] = {
    observe.RunStarted: {"path": "add.wasm", "function": "add"},
    observe.RunEnded: {"path": "add.wasm", "status": "returned", "exit_code": 0, "message": None},
    observe.ModuleLoaded: {"digest": "ab", "size": 8, "cached": True, "seconds": 0.5},
    observe.ExecutionStarted: {"function": "add", "arguments": 2},
    observe.HostFunctionCalled: {"module": "env", "name": "log", "seconds": 1e-6},
    observe.CapabilityChecked: {
        "capability": "filesystem",
        "action": "write",
        "target": "/data/x",
        "allowed": False,
        "rule": "read-only grant /data",
        "remedy": "--allow-write /data",
    },
    observe.MemoryGrew: {"before": 0, "after": 65536},
    observe.FuelConsumed: {"fuel": 10, "limit": None},
    observe.ExecutionCompleted: {"function": "add", "status": "returned", "exit_code": 0, "seconds": 0.1, "fuel": 10},
    observe.ErrorRaised: {"error_kind": "trap", "blame": "guest", "message": "unreachable"},
    observe.Custom: {"name": "mine", "data": {"n": 1}},
    observe.GuestLogged: {"level": "info", "message": "hello"},
}


def test_the_kinds_are_those_of_the_design() -> None:
    assert list(EVENTS) == [
        "run_started",
        "module_loaded",
        "execution_started",
        "host_function_called",
        "capability_checked",
        "memory_grew",
        "fuel_consumed",
        "execution_completed",
        "error",
        "custom",
        "guest_logged",
        "run_ended",
    ]
    assert set(EVENTS.values()) == set(SAMPLES)


@pytest.mark.parametrize("event", list(SAMPLES), ids=lambda e: e.kind)
def test_an_event_is_one_line_with_its_fields(event: type[Event]) -> None:
    made = event(ts=1.5, run="r1", seq=3, **SAMPLES[event])
    line = made.to_json()
    assert "\n" not in line
    data = json.loads(line)
    assert list(data)[:4] == ["ts", "run", "seq", "kind"]
    assert (data["ts"], data["run"], data["seq"], data["kind"]) == (1.5, "r1", 3, event.kind)
    assert SAMPLES[event].items() <= data.items()


@pytest.mark.parametrize("event", list(SAMPLES), ids=lambda e: e.kind)
def test_an_event_is_frozen(event: type[Event]) -> None:
    made = event(**SAMPLES[event])  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.run = "other"  # type: ignore[misc]
    assert not hasattr(made, "__dict__")


def test_guest_text_is_truncated_when_the_event_is_created() -> None:
    assert len(GuestLogged(level="info", message="x" * 1_000_000).message) == 4096
    target = "/" + "a" * 1_000_000
    checked = CapabilityChecked(capability="c", action="a", target=target, allowed=True, rule="r")
    assert len(checked.target) == 4096
    assert len(Custom(name="n" * 5000, data={"x": "y" * 5000}).to_json()) < 9000


def test_guest_text_is_escaped_when_the_event_is_written() -> None:
    line = ErrorRaised(error_kind="trap", blame="guest", message="\x1b[2J\r\n\x9b\u202e\x7f\ud800").to_json()
    assert line.isascii()
    assert line.isprintable()


def test_the_data_of_a_custom_event_is_a_copy() -> None:
    data = {"items": [1]}
    event = Custom(name="mine", data=data)
    data["items"].append(2)
    assert event.data == {"items": [1]}
    assert Custom(name="empty").data == {}


def test_a_number_that_json_lacks_is_written_as_text() -> None:
    event = ModuleLoaded(digest="", size=0, cached=False, seconds=float("inf"))
    assert json.loads(event.to_json())["seconds"] == "inf"


def test_every_name_of_the_package_can_be_had() -> None:
    for name in observe.__all__:
        assert getattr(observe, name) is not None
    assert set(observe.__all__) <= set(dir(observe))
    with pytest.raises(AttributeError, match="nothing_such"):
        observe.nothing_such  # noqa: B018 - reading it is the test
