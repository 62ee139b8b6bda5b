"""A campaign on a real Dask cluster in which a worker is killed: no chunk is lost or counted twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.guests.catalogue import source

pytest.importorskip("distributed", reason="the extra dask is not installed")
ROOT = Path(__file__).resolve().parents[2]
CODE = """
import json, os, signal, sys
from distributed import LocalCluster
from aegis.cli.dask_cluster import dask_executor
from aegis.engine.compile.artifact import read_file
from aegis.fuzz.campaign import Campaign
from aegis.fuzz.plan import CampaignPlan
from aegis.limits import Limits
from aegis.policy import Policy

def campaign(executor):
    path = sys.argv[1]
    plan = CampaignPlan(data=read_file(path, Limits()), name=path, policy=Policy(), seed=3)
    made = Campaign(plan, runs=5000, executor=executor)
    for number, _ in enumerate(made.run()):
        if executor is not None and number == 2:
            os.kill(next(iter(cluster.workers.values())).process.process.pid, signal.SIGKILL)
    result = made.result
    return [result.cases, result.statuses, sorted(result.chunks), sorted(result.findings), result.lost]

if __name__ == "__main__":
    alone = campaign(None)
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    print(json.dumps([alone, campaign(dask_executor(cluster.scheduler_address))]))
    sys.stdout.flush()
    os._exit(0)
"""


def test_a_cluster_gives_the_results_of_one_process_although_a_worker_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "on_dask.py"
    script.write_text(CODE)
    done = subprocess.run(
        [sys.executable, str(script), str(source("buggy/code-point"))],
        capture_output=True, text=True, timeout=300, check=False, cwd=ROOT, env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    alone, cluster = json.loads(done.stdout.splitlines()[-1])
    assert cluster == alone
    assert cluster[2] == list(range(5))


def test_an_unreachable_scheduler_is_reported() -> None:
    from aegis.cli.dask_cluster import dask_executor
    from aegis.errors import PolicyError

    with pytest.raises(PolicyError, match=r"^no Dask scheduler answers at tcp:"):
        dask_executor("tcp://127.0.0.1:1")
