from __future__ import annotations

import json

from aegis.errors import CapabilityDenied, Frame, GuestTrap, LinkError, MissingImport, OutOfFuel
from aegis.observe import ExecutionReport, Outcome, Usage

USAGE = Usage(
    fuel=1234,
    seconds=1.5,
    host_seconds=0.5,
    host_calls=12,
    bytes_in=2048,
    bytes_out=1,
    peak_memory=65536,
    denials=2,
    stdout=5,
    stderr=0,
)
LIMITS = {"fuel": 10_000, "memory": 64 << 20, "timeout": None}


def test_a_success_for_people() -> None:
    report = ExecutionReport.of(
        Outcome(value=5, usage=USAGE),
        artifact="add.wasm",
        digest="ab12",
        function="add",
        granted=["read /data", "log info and above"],
        limits=LIMITS,
    )
    assert report.to_text().split("\n") == [
        "status    returned, exit code 0",
        "value     5",
        "artifact  add.wasm",
        "digest    ab12",
        "function  add",
        "time      1.5 s",
        "fuel      1,234 of 10,000",
        "memory    64 KiB of 64 MiB",
        "host      12 calls, 500 ms, 2 KiB in, 1 byte out",
        "output    5 bytes to stdout, 0 bytes to stderr",
        "denied    2 requests",
        "granted   read /data",
        "          log info and above",
        "lifted    timeout",
    ]


def test_uncounted_fuel_is_reported_and_differs_from_a_lifted_limit() -> None:
    report = ExecutionReport.of(
        Outcome(usage=Usage(seconds=0.5)), limits={"fuel": None, "timeout": 30.0, "memory": None}
    )
    lines = report.to_text().split("\n")
    assert lines[1:4] == ["time      500 ms of 30 s", "fuel      not counted", "memory    0 bytes"]
    assert lines[-1] == "lifted    memory"
    data = report.to_dict()
    assert (data["usage"]["fuel"], data["limits"]["fuel"], data["lifted"]) == (None, None, ["memory"])


def test_unmeasured_values_are_not_shown() -> None:
    assert ExecutionReport.of(Outcome()).to_text().split("\n") == [
        "status    returned, exit code 0",
        "time      0 ns",
        "memory    0 bytes",
        "host      0 calls, 0 bytes in, 0 bytes out",
        "output    0 bytes to stdout, 0 bytes to stderr",
        "granted   nothing",
    ]


def test_an_error_as_data() -> None:
    error = OutOfFuel("all fuel used", limit="fuel", used=10_000, allowed=10_000)
    data = json.loads(ExecutionReport.of(Outcome.from_error(error, usage=USAGE), limits=LIMITS).to_json())
    assert (data["status"], data["exit_code"]) == ("out-of-fuel", 152)
    assert data["error"] == {
        "kind": "out-of-fuel",
        "blame": "guest",
        "message": "all fuel used",
        "limit": "fuel",
        "used": 10_000,
        "allowed": 10_000,
    }
    assert data["usage"]["guest_seconds"] == 1.0
    assert data["limits"]["timeout"] is None
    assert data["lifted"] == ["timeout"]


def test_the_remedy_the_frames_and_the_missing_imports_are_data_too() -> None:
    denied = CapabilityDenied("denied", capability="clock", target="clock", remedy="--allow-clock=system")
    assert ExecutionReport.of(Outcome.from_error(denied)).to_dict()["error"]["remedy"] == "--allow-clock=system"
    trap = GuestTrap("unreachable", code="unreachable", frames=[Frame(1, "f", 30)])
    assert ExecutionReport.of(Outcome.from_error(trap)).to_dict()["error"]["frames"] == [
        {"function_index": 1, "name": "f", "module_offset": 30}
    ]
    link = LinkError("missing", missing=[MissingImport("env", "log", "(i32) -> ()", "register_func")])
    assert ExecutionReport.of(Outcome.from_error(link)).to_dict()["error"]["missing"][0]["remedy"] == "register_func"


def test_a_message_of_several_lines_keeps_them_and_hides_nothing() -> None:
    trap = GuestTrap("first\nsecond \x1b[31m", code="c")
    text = ExecutionReport.of(Outcome.from_error(trap)).to_text().split("\n")
    assert text[1:3] == ["error     first", "          second \\x1b[31m"]


def test_output_that_is_text_comes_as_text_and_the_rest_as_base64() -> None:
    data = ExecutionReport.of(Outcome(stdout="ünï\x1b".encode(), stderr=b"\xff\x00")).to_dict()
    assert data["stdout"] == "ünï\x1b"
    assert (data["stderr"], data["stderr_encoding"], data["stdout_encoding"]) == ("/wA=", "base64", "utf-8")
    document = ExecutionReport.of(Outcome(stdout=b"\x1b\x7f")).to_json(indent=None)
    assert document.isascii()
    assert document.isprintable()


def test_a_value_that_json_lacks_is_text() -> None:
    assert ExecutionReport.of(Outcome(value=(float("nan"), 2))).to_dict()["value"] == ["nan", 2]
