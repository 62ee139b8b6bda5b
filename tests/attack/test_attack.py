"""Campaigns on harnesses with planted defects: each defect is found, minimised, reported once, saved and replayed."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from aegis.attack import store
from aegis.attack.bytewise import whole_sections
from aegis.attack.campaign import INPUTS_PER_RANGE, AttackCampaign, AttackResult
from aegis.attack.inputs import AttackInput
from aegis.attack.report import to_data, to_text
from aegis.attack.seeds import built_in
from aegis.attack.shrink import reduce_bytes
from aegis.attack.trial import Bounds
from aegis.attack.worker import Attack, InputRange, explore

PLANTED = "tests.attack.planted"
SEEDS = tuple(built_in())
ODD = b"\x6f"


def attack(harness: str, source: str = "flips", **options: Any) -> Attack:
    return Attack(sources=(source,), artifacts=SEEDS, harness=f"{PLANTED}:{harness}", **options)


def campaign(harness: str, *, runs: int = 60, jobs: int = 2, shrinking: float = 20.0, **options: Any) -> AttackResult:
    made = AttackCampaign(attack(harness, **options), runs=runs, jobs=jobs, shrinking=shrinking)
    for _ in made.run():
        pass
    assert not made.notes.exists()
    return made.result


def only(result: AttackResult) -> dict[str, Any]:
    assert not result.lost
    [finding] = result.findings.values()
    return finding


def test_an_undocumented_error_is_found_minimised_and_reported_once(tmp_path: Path) -> None:
    result = campaign("Raises", runs=100)
    finding = only(result)
    assert result.cases.total() == 100
    assert finding["signature"] == "load undocumented TypeError wasm.digest.sha256_hex"
    assert finding["times"] > 1
    assert finding["again"]
    assert finding["size"] == 9 < finding["size_found"]
    store.save(tmp_path, {**finding, "seed": 0})
    saved = tmp_path / f"{store.file_name(finding)}.wasm"
    assert saved.read_bytes()[8:] == ODD
    [again] = store.replay(saved, attack("Raises"))
    assert again.signature == finding["signature"]
    assert store.replay(saved, attack("Healthy")) == []


@pytest.mark.parametrize(
    ("harness", "how"), [("Exits", "exit 3"), pytest.param("Killed", "SIGKILL", marks=pytest.mark.long)]
)
def test_an_input_that_kills_its_process_is_found_and_no_case_is_lost(harness: str, how: str, tmp_path: Path) -> None:
    result = campaign(harness, runs=40, shrinking=3.0)
    finding = only(result)
    assert result.cases.total() == 40
    assert finding["signature"] == f"load died {how}"
    assert finding["turn"] % 20 == 7
    assert finding["size"] < finding["size_found"]
    assert result.endings["flips"]["load", "died", how] == finding["times"] == 2
    store.save(tmp_path, {**finding, "seed": 0})
    saved = tmp_path / f"{store.file_name(finding)}.wasm"
    assert [fault.signature for fault in store.replay(saved, attack(harness))] == [finding["signature"]]
    assert store.replay(saved, attack("Healthy")) == []


def test_a_hang_is_found_with_its_phase() -> None:
    bounds = Bounds(patience=1.0)
    finding = only(campaign("Hangs", runs=INPUTS_PER_RANGE, jobs=1, shrinking=0, bounds=bounds))
    assert finding["kind"] == "hung"
    assert finding["again"]
    assert "did not end within 1 s" in finding["text"]


def test_a_leak_is_found_with_its_input() -> None:
    finding = only(campaign("Leaks", runs=60, jobs=1))
    assert finding["signature"] == "after left-behind descriptors"


def test_a_reader_that_forgets_a_byte_is_found_in_aegis_itself() -> None:
    messages = explore(attack("Forgetful"), InputRange("flips", 0, 8), (), float("inf"))
    # In this process, so the original reader must be restored.
    from aegis.attack import worker
    from aegis.engine.compile import artifact
    from aegis.wasm import binary

    artifact.read_module = binary.read_module
    assert worker._state is not None
    worker._state.harness.close()
    worker._state = None
    signatures = {finding["signature"] for finding in messages["findings"]}
    assert {s for s in signatures if "KeyError" in s} == {
        "describe undocumented KeyError engine.compile.artifact.admit_module",
        "load undocumented KeyError engine.compile.artifact.admit_module",
    }  # fmt: skip


def test_a_lie_is_shrunk_by_hypothesis() -> None:
    from aegis.attack.abi_fuzzer import liar, shrink_case

    def shows(data: bytes) -> bool:
        return data.count(b"\x10") > 20

    make = liar(3, ())
    number = next(n for n in range(25) if shows(make(n).data))
    small = shrink_case(3, number, shows, time.monotonic() + 5)
    assert small is not None
    assert shows(small)
    assert small != make(number).data
    assert shrink_case(3, number, shows, time.monotonic() - 1) is None


def test_bytes_are_reduced_with_their_sections_right() -> None:
    def shows(tried: bytes) -> bool:
        found = whole_sections(tried)
        return b"grow" in tried and bool(found) and found[-1][2] == len(tried)

    small = reduce_bytes(SEEDS[0][1], shows)
    assert shows(small)
    assert len(small) <= 8 + 2 + len(b"grow")


def test_the_same_seed_finds_the_same_whatever_the_executor() -> None:
    with ThreadPoolExecutor(1) as executor:
        given = AttackCampaign(attack("Raises"), runs=40, executor=executor, shrinking=0)
        for _ in given.run():
            pass
    own = campaign("Raises", runs=40, shrinking=0)
    assert given.result.endings == own.endings
    assert given.result.cases == own.cases
    assert {s: f["data"] for s, f in given.result.findings.items()} == {s: f["data"] for s, f in own.findings.items()}


def test_ctrl_c_keeps_the_findings() -> None:
    class Interrupted(AttackCampaign):
        def _rerun_suspects(self) -> None:
            if self.result.findings:
                raise KeyboardInterrupt

    made = Interrupted(attack("Raises"), jobs=1, shrinking=0)
    for _ in made.run():
        pass
    assert made.result.interrupted
    assert only(made.result)["times"] >= 1
    assert made.result.cases.total() >= INPUTS_PER_RANGE


def test_a_report_has_sources_outcomes_and_findings_with_their_commands(tmp_path: Path) -> None:
    result = campaign("Raises", runs=40, shrinking=0)
    data = json.loads(json.dumps(to_data(result, {"a.wasm": "larger than 1 byte"}, str(tmp_path))))
    text = to_text(data)
    assert data["cases"] == data["sources"]["flips"]["cases"] == 40
    assert sum(o["number"] for o in data["outcomes"]) == 40
    [finding] = data["findings"]
    assert "data" not in finding
    assert finding["command"] == f"aegis fuzz --host --replay {tmp_path}/{store.file_name(finding)}.wasm"
    assert finding["command"] in text
    assert "left out: a.wasm: larger than 1 byte" in text
    assert text.splitlines()[-1].startswith("40 cases in ")


def test_a_saved_finding_is_a_test_that_fails_while_it_is_there(tmp_path: Path) -> None:
    from aegis.attack.triage import Fault
    from aegis.attack.worker import finding_of

    fault = Fault(phase="load", kind="undocumented", type="KeyError", place="", text='load: KeyError: """')
    one = AttackInput(source="flips", number=5, data=b"\0asm\1\0\0\0", label="")
    store.save(tmp_path, finding_of(one, fault, again=True))
    [test] = tmp_path.glob("test_*.py")
    space: dict[str, Any] = {"__file__": str(test), "__name__": "found"}
    exec(compile(test.read_text(), str(test), "exec"), space)
    [function] = [value for name, value in space.items() if name.startswith("test_")]
    function()  # an empty module shows no fault
