"""The application itself: which requests reach a guest, how many at once, and the protocols beside HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aegis import Aegis, FilesystemCapability, HostError, LinkError, PolicyError
from aegis.limits import Limits
from aegis.serve import ServedRequest, asgi
from aegis.serve.request import Rejected, head_of
from tests.guests import catalogue
from tests.serve.asgi_client import Answer, ask, ask_now, scope_of
from tests.serve.served import component, runtime, served

ADD = '(module (func (export "f")))'


def head(path: str = "/", **more: Any) -> Any:
    return head_of(scope_of(path, **more), Limits())


def test_the_path_is_that_of_the_client_without_that_of_a_mount() -> None:
    assert head("/a%20b%2Fc?d=%20").target == "/a%20b%2Fc?d=%20"
    assert head("/app/x%2Fy?z", root_path="/app").target == "/x%2Fy?z"
    assert head("/app", root_path="/app").target == "/"
    assert head("/apple", root_path="/app").target == "/apple"
    assert head("/a b/x y", root_path="/a b", raw_path=b"/a%20b/x%20y").target == "/x%20y"
    assert head("/app/x y", root_path="/app", raw_path=b"/%61pp/x%20y").target == "/x%20y"
    assert head("/x", root_path="/behind/a/proxy").target == "/x"
    assert head("/?", query_string=b"").target == "/"
    assert head("/é x", raw_path=None).target == "/%C3%A9%20x"


def test_a_length_beside_another_framing_is_left_out() -> None:
    length = (b"content-length", b"3")
    assert head(headers=[length]).fields == [length]
    assert head(headers=[length, (b"transfer-encoding", b"chunked")]).fields == []


def test_the_authority_is_the_host_that_the_client_named() -> None:
    assert head().authority == "a.example"
    assert head(headers=[(b"host", b"a.example")] * 0).authority == "a.example"
    bare: dict[str, Any] = {**scope_of("/"), "headers": []}
    assert head_of(bare, Limits()).authority == "127.0.0.1:80"
    assert head_of({**bare, "server": ("::1", 8080)}, Limits()).authority == "[::1]:8080"
    assert head_of({**bare, "server": ("/run/socket", None)}, Limits()).authority is None


@pytest.mark.parametrize(
    ("status", "scope"),
    [
        (400, {"headers": [(b"host", b"a"), (b"host", b"b")]}),
        (400, {"headers": [(b"host", b"a b")]}),
        (400, {"headers": [(b"host", b"user@a")]}),
        (400, {"headers": [(b"x-a", b"1\r\nx-b: 2")]}),
        (400, {"headers": [(b"x a", b"1")]}),
        (400, {"raw_path": b"/a b"}),
        (400, {"raw_path": b"/\xff"}),
        (400, {"method": "GE T"}),
        (414, {"raw_path": b"/" + b"a" * 16384}),
        (431, {"headers": [(b"x-a", b"1")] * 257}),
        (431, {"headers": [(b"x-a", b"1" * 65536)]}),
    ],
    ids=["two hosts", "host", "user", "line break", "name", "space", "byte", "method", "long path", "fields", "bytes"],
)  # fmt: skip
def test_a_request_without_an_exact_form_reaches_no_guest(status: int, scope: dict[str, Any]) -> None:
    with pytest.raises(Rejected) as caught:
        head_of({**scope_of("/"), **scope}, Limits())
    assert caught.value.status == status
    made = served("py-handler")
    answer = ask_now(made.app, "/hello", scope={**scope_of("/hello"), **scope})
    assert answer.status == status
    assert answer.ended
    assert made.report.outcome is None


def test_a_request_beyond_the_limits_of_fields_is_refused() -> None:
    made = served("py-handler", policy={"http_fields": 3})
    headers = [(b"x-a", b"1"), (b"x-b", b"1")]
    assert ask_now(made.app, "/hello", headers=headers).status == 200
    assert ask_now(made.app, "/hello", headers=[*headers, (b"x-c", b"1")]).status == 431
    assert made.reports[1].reason.startswith("HTTP-field limit exceeded (4/3 fields of one message): raise it with ")


def test_requests_beyond_the_bound_get_503_at_once() -> None:
    made = served("py-handler", max_concurrent=2)
    gone = asyncio.Event()

    async def main() -> tuple[Answer, list[Answer]]:
        under_way = [asyncio.create_task(ask(made.app, "/loop", gone_after=gone)) for _ in range(2)]
        while made.app.running < 2:
            await asyncio.sleep(0)
        refused = await ask(made.app, "/hello")
        gone.set()
        await asyncio.gather(*under_way)
        return refused, [await ask(made.app, "/hello")]

    refused, (after,) = asyncio.run(main())
    assert (refused.status, refused.body) == (503, b"503 Service Unavailable\n")
    assert (b"retry-after", b"1") in refused.headers
    assert after.status == 200


def test_websockets_are_rejected_before_they_are_accepted() -> None:
    app = served("py-handler").app
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app({"type": "websocket"}, receive, send))
    assert [one["type"] for one in sent] == ["websocket.close"]
    with pytest.raises(ValueError, match=r"the ASGI scope other is not served"):
        asyncio.run(app({"type": "other"}, receive, send))


def lifespan(app: Any) -> list[dict[str, Any]]:
    """Return the messages of an application that starts and shuts down."""
    left = ["lifespan.startup", "lifespan.shutdown"]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": left.pop(0)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app({"type": "lifespan"}, receive, send))
    return sent


def test_the_lifespan_opens_a_sandbox_ahead_and_closes_it() -> None:
    assert [one["type"] for one in lifespan(served("py-handler").app)] == [
        "lifespan.startup.complete", "lifespan.shutdown.complete",
    ]  # fmt: skip


def test_a_grant_that_cannot_be_acquired_fails_the_startup(tmp_path: Any) -> None:
    made = Aegis(filesystem=FilesystemCapability.read_only(tmp_path / "none"))
    app = asgi(made, made.load_file(catalogue.built("py-handler")))
    (failed,) = lifespan(app)
    assert failed["type"] == "lifespan.startup.failed"
    assert "none" in failed["message"]


def test_the_server_learns_of_a_sandbox_that_cannot_be_opened_and_the_client_of_nothing() -> None:
    made = runtime()
    app = asgi(made, component("py-handler", made), imports={"a:b/c": object()})
    assert [one["type"] for one in lifespan(app)] == ["lifespan.startup.failed"]
    answer = ask_now(app, "/hello")
    assert (answer.status, answer.body) == (500, b"500 Internal Server Error\n")
    assert isinstance(answer.failure, LinkError)


class BrokenHandler:
    """An implementation of ``wasi:http/outgoing-handler`` that fails."""

    def handle(self, request: Any, options: Any) -> Any:
        raise ZeroDivisionError("a secret of the host")


@pytest.mark.parametrize("isolate", [False, True], ids=["in process", "isolated"])
def test_the_exception_of_a_host_function_is_a_500_and_reaches_the_server(isolate: bool) -> None:
    made = runtime()
    imports = {"wasi:http/outgoing-handler": BrokenHandler()}
    app = asgi(made, component("py-handler", made), imports=imports, isolate=isolate)
    answer = ask_now(app, "/fetch", headers=[(b"x-target", b"a.example")])
    assert (answer.status, answer.body) == (500, b"500 Internal Server Error\n")
    assert isinstance(answer.failure, HostError)


def test_an_artifact_without_a_handler_is_rejected() -> None:
    made = runtime()
    with pytest.raises(LinkError, match="a core module serves no HTTP"):
        asgi(made, made.load_wat(ADD))
    with pytest.raises(LinkError, match="the component exports no HTTP handler"):
        asgi(made, made.load_wat("(component)"))
    for name in ("max_concurrent", "requests_per_sandbox"):
        for value in (0, True, "3"):
            with pytest.raises(PolicyError, match=f"{name} must be a positive integer"):
                asgi(made, component("py-handler", made), **{name: value})  # type: ignore[arg-type]


def test_a_handler_of_another_version_or_type_is_rejected() -> None:
    made = runtime()
    text = """(component
      (core module $m (func (export "h")))
      (core instance $i (instantiate $m))
      (func $f (canon lift (core func $i "h")))
      (instance $e (export "handle" (func $f)))
      (export "wasi:http/incoming-handler@{version}" (instance $e)))"""
    with pytest.raises(LinkError, match=r"wasi:http/incoming-handler@0\.2\.1#handle differs from that of"):
        asgi(made, made.load_wat(text.replace("{version}", "0.2.1")))
    with pytest.raises(LinkError, match=r"wasi:http/incoming-handler@0\.9\.0, a version that Aegis does not serve"):
        asgi(made, made.load_wat(text.replace("{version}", "0.9.0")))


def test_a_report_that_raises_does_not_break_the_request() -> None:
    made = runtime()
    seen: list[dict[str, Any]] = []

    def report(request: ServedRequest) -> None:
        raise ZeroDivisionError

    async def main() -> Answer:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: seen.append(context))
        return await ask(asgi(made, component("py-handler", made), on_request=report), "/hello")

    assert asyncio.run(main()).body == b"hello\n"
    assert [type(one["exception"]) for one in seen] == [ZeroDivisionError]


def test_subscribers_of_the_runtime_get_the_events_of_each_call() -> None:
    events: list[Any] = []
    made = Aegis(timeout="60s", subscribers=[events.append])
    app = asgi(made, made.load_file(catalogue.built("py-handler")))
    ask_now(app, "/hello")
    ask_now(app, "/trap")
    ends = [one for one in events if type(one).__name__ == "ExecutionCompleted"]
    assert [one.status for one in ends] == ["returned", "trap"]
    assert {one.function for one in ends} == {"wasi:http/incoming-handler@0.2.12#handle"}
    assert len({one.run for one in ends}) == 2
