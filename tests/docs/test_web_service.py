"""The service of the guide "Plugins in a web service" answers 200 requests at once, a quarter of them for bad plugins.

Oracle: each bad plugin gets the answer of its fault, and each good one its price, however many run beside it. Times and
stalls of the event loop are measured by ``scripts/bench --only web``.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tests.web_load import Load, loaded, post, service

pytest.importorskip("starlette")

FAULTS = {
    "traps": (502, {"error": "trap", "blame": "guest"}),
    "spins": (504, {"error": "timeout", "blame": "guest"}),
    "grows": (502, {"error": "trap", "blame": "guest"}),
    "prints": (502, {"error": "output-exceeded", "blame": "guest"}),
}
REQUESTS = (["honest"] * 12 + list(FAULTS)) * 12 + ["honest"] * 6 + ["traps", "prints"]


@pytest.fixture(scope="module")
def guide(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = service(tmp_path_factory.mktemp("service"))
    made.LIMITS["timeout"] = "5s"  # so that no good plugin is late on a loaded machine
    return made


def test_good_and_bad_plugins_get_their_answers_under_load(guide: Any) -> None:
    async def main() -> Load:
        async with guide.app.router.lifespan_context(guide.app):
            return await loaded(guide.app, REQUESTS)

    assert len(REQUESTS) == 200
    assert sum(plugin in FAULTS for plugin in REQUESTS) == 50
    before = threading.active_count()
    for n, answer in enumerate(asyncio.run(main()).answers):
        wanted = FAULTS.get(answer.plugin, (200, {"price": n + n // 5}))
        assert (answer.status, answer.body) == wanted, answer
    assert threading.active_count() <= before + 32, "idle threads are kept for later calls, and no others"


def test_unknown_plugins_and_bad_arguments_are_answered(guide: Any) -> None:
    async def main() -> None:
        async with guide.app.router.lifespan_context(guide.app):
            assert (await post(guide.app, "nobody", b"1")).status == 404
            answer = await post(guide.app, "honest", b'"text"')
            assert (answer.status, answer.body["blame"]) == (500, "embedder")
            assert (await post(guide.app, "honest", b"10")).body == {"price": 12}

    asyncio.run(main())
