"""A server of HTTP in WASI 0.3: see README.md for its paths."""

import json

import componentize_py_async_support as support
import wit_world
from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import client
from wit_world.imports import wasi_http_types as types

PIECE = 65536
trailers_future = wit_world.result_option_wasi_http_types_fields_wasi_http_types_error_code_future
result_future = wit_world.result_unit_wasi_http_types_error_code_future
seen = []
"""Requests of this instance: its length shows whether instances are reused."""


def answered(writing, status=200, fields=(), trailers=lambda: None):
    """Return a response whose body the coroutine function ``writing`` writes after its head was sent."""
    contents, reader = wit_world.byte_stream()
    end, ending = trailers_future(lambda: Ok(None))

    async def write():
        with contents:
            await writing(contents)
        await end.write(Ok(trailers()))

    response, _ = types.Response.new(types.Fields.from_list(list(fields)), reader, ending)
    response.set_status_code(status)
    support.spawn(write())
    return response


def text(data, status=200, fields=()):
    async def write(contents):
        await contents.write_all(data)

    return answered(write, status, fields)


def taken(request):
    """Return the body of a request and its trailers."""
    writer, reader = result_future(lambda: Ok(None))
    body, trailers = types.Request.consume_body(request, reader)
    return body, trailers, writer


def described(request):
    """Return the head of a request as JSON."""
    method, scheme = request.get_method(), request.get_scheme()
    fields = [[name, value.decode("latin-1")] for name, value in request.get_headers().copy_all()]
    return json.dumps(
        {
            "method": getattr(method, "value", None) or type(method).__name__.removeprefix("Method_").upper(),
            "scheme": getattr(scheme, "value", None) or type(scheme).__name__.removeprefix("Scheme_").lower(),
            "authority": request.get_authority(),
            "path": request.get_path_with_query(),
            "headers": fields,
        }
    ).encode()


class Handler(exports.Handler):
    async def handle(self, request):
        path = request.get_path_with_query().partition("?")[0].strip("/")
        command, *words = path.split("/")
        found = getattr(self, f"on_{command.replace('-', '_')}", None)
        return text(b"no such path\n", 404) if found is None else await found(request, *words)

    async def on_hello(self, request):
        return text(b"hello\n", fields=[("content-type", b"text/plain")])

    async def on_echo(self, request):
        body, _, result = taken(request)
        size = 0

        async def write(contents):
            nonlocal size
            with result, body:
                while not body.writer_dropped:
                    piece = await body.read(PIECE)
                    size += len(piece)
                    if await contents.write_all(piece) < len(piece):
                        return

        return answered(write, trailers=lambda: types.Fields.from_list([("x-size", str(size).encode())]))

    async def on_forward(self, request):
        """Answer with the stream of the request itself."""
        result, reader = result_future(lambda: Ok(None))
        body, _ = types.Request.consume_body(request, reader)
        end, ending = trailers_future(lambda: Ok(None))
        response, _ = types.Response.new(types.Fields(), body, ending)
        with end, result:
            return response

    async def on_size(self, request):
        body, _, result = taken(request)
        size = 0
        with result, body:
            while not body.writer_dropped:
                size += len(await body.read(PIECE))
        return text(f"{size}\n".encode())

    async def on_head(self, request):
        return text(described(request))

    async def on_status(self, request, status):
        return text(b"", int(status))

    async def on_fields(self, request, count, size="1"):
        return text(b"many\n", fields=[(f"x-{n}", b"v" * int(size)) for n in range(int(count))])

    async def on_count(self, request):
        seen.append(None)
        return text(f"{len(seen)}\n".encode())

    async def on_keep(self, request):
        """Keep the request; later requests of this instance read its body."""
        kept = [old for old in seen if old is not None]
        seen.append(request)
        if not kept:
            return text(b"first\n")
        body, trailers, result = taken(kept[0])
        with result, body:
            data = await body.read(100)
        return text(data or f"{type((await trailers.read()).value).__name__}\n".encode())

    async def on_trap(self, request):
        raise ValueError("a secret of the guest")

    async def on_late_trap(self, request):
        async def write(contents):
            await contents.write_all(b"before")
            raise ValueError("a secret of the guest")

        return answered(write)

    async def on_unfinished(self, request):
        async def write(contents):
            await contents.write_all(b"before")

        def trailers():
            raise ValueError("no trailers")

        return answered(write, trailers=trailers)

    async def on_loop(self, request):
        while True:
            pass

    async def on_late_loop(self, request):
        async def write(contents):
            await contents.write_all(b"before")
            while True:
                pass

        return answered(write)

    async def on_after(self, request):
        """Answer wholly, then go on without end."""

        class Ended:
            def __enter__(self):
                return self

            def __exit__(self, *exception):
                while True:
                    pass

        async def write():
            with Ended(), contents:
                await contents.write_all(b"whole\n")
                contents.__exit__(None, None, None)
                await end.write(Ok(None))

        contents, reader = wit_world.byte_stream()
        end, ending = trailers_future(lambda: Ok(None))
        response, _ = types.Response.new(types.Fields(), reader, ending)
        support.spawn(write())
        return response

    async def on_endless(self, request):
        async def write(contents):
            while await contents.write_all(b"x" * PIECE) == PIECE:
                pass

        return answered(write)

    async def on_inject(self, request):
        try:
            types.Fields.from_list([("x-a", b"1\r\nx-injected: 2")])
            return text(b"accepted\n")
        except Err as error:
            return text(f"{type(error.value).__name__}\n".encode())

    async def on_forbidden(self, request):
        try:
            types.Fields.from_list([("transfer-encoding", b"chunked")])
            return text(b"accepted\n")
        except Err as error:
            return text(f"{type(error.value).__name__}\n".encode())

    async def on_length(self, request, stated, actual):
        """State one length and write another."""
        return text(b"x" * int(actual), fields=[("content-length", stated.encode())])

    async def on_error(self, request):
        raise Err(types.ErrorCode_InternalError("a secret of the guest"))

    async def on_denied(self, request):
        raise Err(types.ErrorCode_HttpRequestBodySize(7))

    async def _answer(self, request):
        target = dict(request.get_headers().copy_all())["x-target"].decode()
        writer, reader = trailers_future(lambda: Ok(None))
        made, _ = types.Request.new(types.Fields(), None, reader, None)
        made.set_authority(target)
        made.set_scheme(types.Scheme_Http())
        made.set_path_with_query("/")
        with writer:
            return await client.send(made)

    async def on_fetch(self, request):
        """Fetch from a server; the header x-target has its authority."""
        try:
            answer = await self._answer(request)
        except Err as error:
            return text(f"{type(error.value).__name__}\n".encode(), 502)
        return text(f"{answer.get_status_code()}\n".encode())

    async def on_relay(self, request):
        """Pass the response of a server on, unread."""
        return await self._answer(request)
