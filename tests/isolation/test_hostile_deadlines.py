"""Each attacker ends soon after its deadline, in process and in a worker. The bound is generous: machines differ."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest

from aegis import Aegis, ClockCapability
from aegis.errors import AegisError, DeadlineExceeded
from tests.guests.catalogue import source

SECONDS = 0.3
SYSTEM = ClockCapability.parse("system")
ATTACKS: list[tuple[str, dict[str, Any]]] = [
    ("spin", {}),
    ("spin-in-start", {}),
    ("sleep-hour", {"clock": SYSTEM}),
    ("sleep-realtime-abs", {"clock": SYSTEM}),
    ("host-call-flood", {"host_calls": None}),
]


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("isolate", [False, True], ids=["here", "isolated"])
@pytest.mark.parametrize(("name", "policy"), ATTACKS, ids=[name for name, _ in ATTACKS])
def test_an_attacker_is_ended_at_its_deadline(name: str, policy: dict[str, Any], isolate: bool) -> None:
    with Aegis(cache=False, fuel=None, timeout=SECONDS, isolation=isolate or None, **policy) as runtime:
        artifact = runtime.load_file(source(f"hostile/{name}"))
        function = "_start" if artifact.kind == "module" else artifact.callables()[0]
        if isolate:
            # the start of the fork server does not count as the guest's time
            runtime.sandbox(runtime.load_wat("(module)")).close()
        begun = time.monotonic()
        error = _ended(runtime, artifact, function)
        late = time.monotonic() - begun - SECONDS
    assert isinstance(error, DeadlineExceeded)
    assert late < 10
    print(f"{name} {'isolated' if isolate else 'in process'}: {late * 1000:.0f} ms late", file=sys.stderr)


def _ended(runtime: Aegis, artifact: Any, function: str) -> AegisError | None:
    try:
        with runtime.sandbox(artifact, args=("guest",)) as sandbox:
            sandbox.call(function)
    except AegisError as error:
        return error
    return None
