"""Every attacker of the hostile set in a worker ends as in process, within the deadline and a grace period."""

from __future__ import annotations

import time
from typing import Any

import pytest

from aegis import AegisError, Outcome
from aegis.limits import parse_seconds
from tests.guests.catalogue import source
from tests.isolation.isolated import isolated, only_where_there_are_workers
from tests.security.test_hostile import ENDINGS

pytestmark = only_where_there_are_workers
PROMISED = 0.25
FACTOR = 8  # the machine may be loaded by other work


@pytest.mark.parametrize(("name", "function", "policy", "status", "code"), ENDINGS)
def test_each_attack_ends_isolated_as_it_does_in_process(
    name: str, function: str, policy: dict[str, Any], status: str, code: int
) -> None:
    aegis = isolated(**policy)
    module = aegis.load_file(source(f"hostile/{name}"))
    started = time.monotonic()
    try:
        with aegis.sandbox(module, args=("guest",)) as box:
            started = time.monotonic()
            outcome = box.run(function)
    except AegisError as error:
        outcome = Outcome.from_error(error)
    if status == "timeout":
        late = time.monotonic() - started - float(parse_seconds(policy["timeout"], "timeout") or 0)
        print(f"{name} {function}: {late * 1000:.0f} ms after its deadline")
        assert late < FACTOR * PROMISED
    assert (outcome.status, outcome.exit_code) == (status, code), outcome.error
    assert "\x1b" not in str(outcome.error)
