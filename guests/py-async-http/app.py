"""A client of HTTP in WASI 0.3, with bodies as streams: see README.md for its commands."""

import asyncio
import hashlib

import componentize_py_async_support as support
import wit_world
from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import client, environment, handler, outgoing_handler, stdout
from wit_world.imports import wasi_http_types_0_2_12 as two
from wit_world.imports import wasi_http_types_0_3_0 as types

PIECE = 65536
trailers_future = wit_world.result_option_wasi_http_types_0_3_0_fields_wasi_http_types_0_3_0_error_code_future
result_future = wit_world.result_unit_wasi_http_types_0_3_0_error_code_future


def addressed(made, url, module=types):
    """Set the parts of a URL; the methods are the same in both versions."""
    scheme, _, rest = url.partition("://")
    authority, _, path = rest.partition("/")
    made.set_scheme(module.Scheme_Https() if scheme == "https" else module.Scheme_Http())
    made.set_authority(authority)
    made.set_path_with_query("/" + path)
    return made


def request(url, method=None, contents=None, fields=(), options=None):
    """Return a request, the writer of its trailers and the future of its transmission."""
    writer, reader = trailers_future(lambda: Ok(None))
    made, sent = types.Request.new(types.Fields.from_list(list(fields)), contents, reader, options)
    if method is not None:
        made.set_method(method)
    return addressed(made, url), writer, sent


def consumed(response):
    writer, reader = result_future(lambda: Ok(None))
    body, trailers = types.Response.consume_body(response, reader)
    return body, trailers, writer


async def whole(response):
    """Return the body of a response, and its trailers."""
    body, trailers, writer = consumed(response)
    data = b""
    with writer, body:
        while not body.writer_dropped:
            data += await body.read(PIECE)
    return data, await trailers.read()


def shown(trailers):
    if isinstance(trailers, Err):
        return type(trailers.value).__name__
    return [] if trailers.value is None else trailers.value.copy_all()


class Run(exports.Run):
    async def run(self):
        command, *words = environment.get_arguments()[1:]
        try:
            await getattr(self, command)(*words)
        except Err as error:
            await self.say(f"refused: {type(error.value).__name__}")

    async def say(self, text):
        writer, reader = wit_world.byte_stream()
        end = stdout.write_via_stream(reader)
        with writer:
            await writer.write_all(f"{text}\n".encode())
        await end.read()

    async def get(self, url, *fields):
        """Print the status, the body and the trailers; FIELDS are names and values with ``=``."""
        pairs = [(name, value.encode()) for name, _, value in (field.partition("=") for field in fields)]
        made, writer, sent = request(url, fields=pairs)
        with writer:
            response = await client.send(made)
            status = response.get_status_code()
            data, trailers = await whole(response)
        await self.say(f"{status} {data.decode()} {shown(trailers)} {await sent.read()}")

    async def via(self, url):
        """Send a request by the imported handler instead of the client."""
        made, writer, _ = request(url)
        with writer:
            response = await handler.handle(made)
        await self.say(response.get_status_code())

    async def post(self, url, text, *trailers):
        """Send a text, and trailers after it."""
        contents, reader = wit_world.byte_stream()
        made, writer, sent = request(url, types.Method_Post(), reader)

        async def write():
            with contents:
                await contents.write_all(text.encode())
            pairs = [(name, value.encode()) for name, _, value in (field.partition("=") for field in trailers)]
            await writer.write(Ok(types.Fields.from_list(pairs) if pairs else None))

        response, _ = await asyncio.gather(client.send(made), write())
        fields = dict(response.get_headers().copy_all())
        data, _ = await whole(response)
        outcome = await sent.read()
        await self.say(f"{response_line(data, fields)} {outcome}")

    async def echo(self, url, count):
        """Write COUNT pieces of 64 KiB while the response is read; print the sizes and whether both are the same."""
        contents, reader = wit_world.byte_stream()
        made, writer, sent = request(url, types.Method_Post(), reader)
        put, got = hashlib.sha256(), hashlib.sha256()

        async def write():
            with writer, contents:
                for n in range(int(count)):
                    piece = bytes([n % 251]) * PIECE
                    put.update(piece)
                    if await contents.write_all(piece) < PIECE:
                        return

        async def read():
            body, trailers, result = consumed(await client.send(made))
            size = 0
            with result, body:
                while not body.writer_dropped:
                    piece = await body.read(PIECE)
                    size += len(piece)
                    got.update(piece)
            return size, shown(await trailers.read())

        (size, trailers), _ = await asyncio.gather(read(), write())
        await self.say(f"{size} {put.digest() == got.digest()} {trailers} {await sent.read()}")

    async def relay(self, source, target):
        """Send the body and the trailers of one response as those of a request, without reading them."""
        made, writer, _ = request(source)
        with writer:
            response = await client.send(made)
        result, reader = result_future(lambda: Ok(None))
        body, trailers = types.Response.consume_body(response, reader)
        onward, sent = types.Request.new(types.Fields(), body, trailers, None)
        onward.set_method(types.Method_Post())
        with result:
            answer = await client.send(addressed(onward, target))
            fields = dict(answer.get_headers().copy_all())
            data, _ = await whole(answer)
        await self.say(f"{response_line(data, fields)} {await sent.read()}")

    async def first(self, url):
        """Read one piece of a body and give up the rest; print the size of the piece, and the trailers."""
        made, writer, _ = request(url)
        with writer:
            body, trailers, result = consumed(await client.send(made))
        with result, body:
            piece = await body.read(10)
        await self.say(f"{len(piece)} {shown(await trailers.read())}")

    async def many(self, count, url, nanoseconds="60000000000"):
        """Send COUNT requests at once, which wait at most NANOSECONDS; print how many were answered, and the errors."""

        async def one():
            options = types.RequestOptions()
            options.set_first_byte_timeout(int(nanoseconds))
            made, writer, _ = request(url, options=options)
            try:
                with writer:
                    response = await client.send(made)
                return (await whole(response))[0].decode()
            except Err as error:
                return type(error.value).__name__

        found = await asyncio.gather(*(one() for _ in range(int(count))))
        await self.say(" ".join(f"{name}:{found.count(name)}" for name in sorted(set(found))))

    async def aborted(self, url):
        """Write half of a body, and an error instead of the trailers."""
        contents, reader = wit_world.byte_stream()
        made, writer, sent = request(url, types.Method_Post(), reader)

        async def write():
            with contents:
                await contents.write_all(b"half")
                await writer.write(Err(types.ErrorCode_InternalError("gave up")))

        async def answered():
            try:
                return (await client.send(made)).get_status_code()
            except Err as error:
                return type(error.value).__name__

        answer, _ = await asyncio.gather(answered(), write())
        await self.say(f"{answer} {await sent.read()}")

    async def late(self, url, nanoseconds):
        """Wait at most NANOSECONDS for the first byte."""
        options = types.RequestOptions()
        options.set_first_byte_timeout(int(nanoseconds))
        made, writer, _ = request(url, options=options)
        with writer:
            response = await client.send(made)
        await self.say(response.get_status_code())

    async def both(self, url):
        """Send a request by each version of WASI at the same time."""
        old = addressed(two.OutgoingRequest(two.Fields.from_list([("x-sent", b"two")])), url, two)
        future = outgoing_handler.handle(old, None)
        made, writer, _ = request(url, fields=[("x-sent", b"three")])
        with writer:
            response = await client.send(made)
        with future.subscribe() as pollable:
            pollable.block()
        answer = future.get().value.value
        sent = [dict(answer.headers().entries())["x-sent"], dict(response.get_headers().copy_all())["x-sent"]]
        await self.say(f"{sent} {(await whole(response))[0].decode()}")


def response_line(data, fields):
    return f"{data.decode()} {fields.get('x-trailers', b'').decode()}"


assert support
