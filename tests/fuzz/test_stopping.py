"""A campaign that is stopped in the middle of a chunk reports what the chunk found, and one without a call says so."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from aegis.engine.compile.artifact import read_file
from aegis.fuzz.campaign import Campaign
from aegis.fuzz.plan import CampaignPlan
from aegis.limits import Limits
from aegis.policy import Policy
from tests.cli.command import COMMAND, ROOT, SECONDS
from tests.cli.command import aegis as command
from tests.guests.catalogue import source

SLOW = """(module (func (export "count") (param i32) (result i32) (local $n i32)
  (loop $more
    (local.set $n (i32.add (local.get $n) (i32.const 1)))
    (br_if $more (i32.lt_u (local.get $n) (i32.const 3000000))))
  (local.get $n)))"""
"""A guest of which a chunk takes many seconds."""


@pytest.mark.parametrize("terminated", [False, True])
def test_a_chunk_that_is_stopped_hands_in_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminated: bool
) -> None:
    """Oracle: a predicate that rejects each call, and writes a file when it was first asked.

    ``timeout`` sends SIGTERM to the process of the chunk too.
    """
    asked = tmp_path / "asked"
    (tmp_path / "stopping_predicate.py").write_text(
        f"import pathlib\ndef never(name, arguments, outcome):\n    pathlib.Path({str(asked)!r}).touch()\n"
        "    return False\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "slow.wat").write_text(SLOW)
    plan = CampaignPlan(
        data=read_file(tmp_path / "slow.wat", Limits()), name="slow.wat", policy=Policy(), coverage=False,
        oracles=("stopping_predicate:never",),
    )  # fmt: skip
    campaign = Campaign(plan, runs=None, jobs=1)
    steps = campaign.run()
    until = time.monotonic() + SECONDS
    while not asked.exists():
        next(steps)  # returns after a tenth of a second
        assert time.monotonic() < until
    if terminated:
        for process in campaign._numbers:
            os.kill(process, signal.SIGTERM)
    with pytest.raises(StopIteration):
        steps.throw(KeyboardInterrupt())
    assert campaign.result.interrupted
    assert not campaign.result.lost
    assert 0 < campaign.result.cases < 1000
    assert campaign.result.findings


def test_the_calls_of_a_chunk_that_runs_are_progress(tmp_path: Path) -> None:
    (tmp_path / "slow.wat").write_text(SLOW)
    plan = CampaignPlan(
        data=read_file(tmp_path / "slow.wat", Limits()), name="slow.wat", policy=Policy(), coverage=False,
    )  # fmt: skip
    campaign = Campaign(plan, runs=None, jobs=1)
    steps = campaign.run()
    until = time.monotonic() + SECONDS
    while not (progress := next(steps)).cases:
        assert time.monotonic() < until
    assert not campaign.result.chunks
    with pytest.raises(StopIteration):
        steps.throw(KeyboardInterrupt())
    assert campaign.result.cases >= progress.cases


def test_a_stop_says_what_other_machines_did_not_hand_in(tmp_path: Path) -> None:
    """The executor stands for a cluster: it runs nothing."""

    class Cluster(ThreadPoolExecutor):
        def submit(self, *arguments: Any, **options: Any) -> Future[Any]:
            return Future()

    (tmp_path / "slow.wat").write_text(SLOW)
    plan = CampaignPlan(data=read_file(tmp_path / "slow.wat", Limits()), name="slow.wat", policy=Policy())
    campaign = Campaign(plan, runs=3000, executor=Cluster())
    steps = campaign.run()
    next(steps)
    with pytest.raises(StopIteration):
        steps.throw(KeyboardInterrupt())
    assert campaign.notes == ["the calls of up to 3 chunks that ran on the cluster are lost"]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_two_signals_in_a_row_stop_a_campaign_once(name: str) -> None:
    """``timeout`` sends the signal to its child, and then to the group, to which the child belongs."""
    send = f"os.kill(os.getpid(), signal.{name})"
    script = (
        "import os, signal\nfrom aegis.cli.fuzz_signals import stopped_by_signals\nwith stopped_by_signals():\n"
        f"    try:\n        {send}\n    except KeyboardInterrupt:\n        {send}\n        print('reported')\n"
    )
    done = subprocess.run([COMMAND[0], "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "reported\n"


def test_the_time_of_a_campaign_begins_with_its_first_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process takes longer to prepare the guest than the campaign may run: it imports a slow predicate."""
    (tmp_path / "slow_predicate.py").write_text(
        "import time\ntime.sleep(0.5)\ndef fine(name, arguments, outcome):\n    return True\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    plan = CampaignPlan(
        data=read_file(source("add"), Limits()), name="add", policy=Policy(), oracles=("slow_predicate:fine",)
    )
    campaign = Campaign(plan, seconds=0.3, jobs=1)
    for _ in campaign.run():
        pass
    assert campaign.result.cases > 0
    assert not campaign.result.lost


def test_a_campaign_without_a_call_is_a_problem_of_the_campaign() -> None:
    ended = command("fuzz", "--jobs", "1", "--time", "1us", "--coverage", "off", source("buggy/empty-list"))
    assert ended.code == 125
    assert ended.out.count("problem: ") == 1
    assert "problem: no call ended within the time of the campaign" in ended.out
    assert "largest: never called: no call of the campaign ended" in ended.out
