"""A server of HTTP in WASI 0.2: see README.md for its paths."""

import json

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import outgoing_handler, types
from wit_world.imports.streams import StreamError_Closed

PIECE = 4096
seen = []
"""Requests of this instance: its length shows whether instances are reused."""


def respond(out, status=200, fields=(), error=None):
    """Send the head of a response; return its body."""
    if error is not None:
        types.ResponseOutparam.set(out, Err(error))
        return None
    response = types.OutgoingResponse(types.Fields.from_list([(name, value) for name, value in fields]))
    response.set_status_code(status)
    body = response.body()
    types.ResponseOutparam.set(out, Ok(response))
    return body


def write(body, *pieces, trailers=None):
    """Write pieces and end the body."""
    with body.write() as stream:
        for piece in pieces:
            for at in range(0, len(piece), PIECE):
                stream.blocking_write_and_flush(piece[at : at + PIECE])
    types.OutgoingBody.finish(body, trailers)


def pieces(request):
    """Yield the body of a request as it arrives."""
    body = request.consume()
    with body.stream() as stream:
        while True:
            try:
                yield stream.blocking_read(65536)
            except Err as error:
                if isinstance(error.value, StreamError_Closed):
                    break
                raise
    types.IncomingBody.finish(body)


def described(request):
    """Return the head of a request as JSON."""
    method, scheme = request.method(), request.scheme()
    with request.headers() as headers:
        fields = [[name, value.decode("latin-1")] for name, value in headers.entries()]
    return json.dumps(
        {
            "method": getattr(method, "value", None) or type(method).__name__.removeprefix("Method_").upper(),
            "scheme": getattr(scheme, "value", None) or type(scheme).__name__.removeprefix("Scheme_").lower(),
            "authority": request.authority(),
            "path": request.path_with_query(),
            "headers": fields,
        }
    ).encode()


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request, response_out):
        path = request.path_with_query().partition("?")[0].strip("/")
        command, *words = path.split("/")
        found = getattr(self, f"on_{command.replace('-', '_')}", None)
        if found is None:
            write(respond(response_out, 404), b"no such path\n")
        else:
            found(request, response_out, *words)

    def on_hello(self, request, out):
        write(respond(out, fields=[("content-type", b"text/plain")]), b"hello\n")

    def on_echo(self, request, out):
        body, size = respond(out), 0
        with body.write() as stream:
            for piece in pieces(request):
                size += len(piece)
                for at in range(0, len(piece), PIECE):
                    stream.blocking_write_and_flush(piece[at : at + PIECE])
        types.OutgoingBody.finish(body, types.Fields.from_list([("x-size", str(size).encode())]))

    def on_size(self, request, out):
        write(respond(out), f"{sum(map(len, pieces(request)))}\n".encode())

    def on_head(self, request, out):
        write(respond(out), described(request))

    def on_status(self, request, out, status):
        write(respond(out, int(status)))

    def on_fields(self, request, out, count, size="1"):
        write(respond(out, fields=[(f"x-{n}", b"v" * int(size)) for n in range(int(count))]), b"many\n")

    def on_count(self, request, out):
        seen.append(None)
        write(respond(out), f"{len(seen)}\n".encode())

    def on_keep(self, request, out):
        """Keep the request; later requests of this instance read its body."""
        kept = [old for old in seen if old is not None]
        seen.append(request)
        found = b"first\n"
        if kept:
            try:
                with kept[0].consume().stream() as stream:
                    found = stream.blocking_read(100)
            except Err as error:
                found = f"{type(error.value).__name__}\n".encode()
        write(respond(out), found)

    def on_trap(self, request, out):
        raise ValueError("a secret of the guest")

    def on_late_trap(self, request, out):
        with respond(out) as body, body.write() as stream:
            stream.blocking_write_and_flush(b"before")
        raise ValueError("a secret of the guest")

    def on_silent(self, request, out):
        pass

    def on_unfinished(self, request, out):
        with respond(out) as body, body.write() as stream:
            stream.blocking_write_and_flush(b"before")

    def on_loop(self, request, out):
        while True:
            pass

    def on_late_loop(self, request, out):
        with respond(out) as body, body.write() as stream:
            stream.blocking_write_and_flush(b"before")
        while True:
            pass

    def on_after(self, request, out):
        """Answer wholly, then go on without end."""
        write(respond(out), b"whole\n")
        while True:
            pass

    def on_endless(self, request, out):
        with respond(out) as body, body.write() as stream:
            while True:
                stream.blocking_write_and_flush(b"x" * PIECE)

    def on_inject(self, request, out):
        try:
            types.Fields.from_list([("x-a", b"1\r\nx-injected: 2")])
            found = b"accepted\n"
        except Err as error:
            found = f"{type(error.value).__name__}\n".encode()
        write(respond(out), found)

    def on_forbidden(self, request, out):
        try:
            types.Fields.from_list([("transfer-encoding", b"chunked")])
            found = b"accepted\n"
        except Err as error:
            found = f"{type(error.value).__name__}\n".encode()
        write(respond(out), found)

    def on_length(self, request, out, stated, actual):
        """State one length and write another."""
        body = respond(out, fields=[("content-length", stated.encode())])
        write(body, b"x" * int(actual))

    def on_error(self, request, out):
        respond(out, error=types.ErrorCode_InternalError("a secret of the guest"))

    def on_denied(self, request, out):
        respond(out, error=types.ErrorCode_HttpRequestBodySize(7))

    def on_twice(self, request, out):
        write(respond(out), b"first\n")
        write(respond(out), b"second\n")

    def on_fetch(self, request, out):
        """Pass a response on; the header x-target has the authority of its server."""
        target = dict(request.headers().entries())["x-target"].decode()
        made = types.OutgoingRequest(types.Fields())
        made.set_authority(target)
        made.set_scheme(types.Scheme_Http())
        made.set_path_with_query("/")
        try:
            future = outgoing_handler.handle(made, None)
            with future.subscribe() as pollable:
                pollable.block()
            answer = future.get().value
            if isinstance(answer, Err):
                raise answer
        except Err as error:
            write(respond(out, 502), f"{type(error.value).__name__}\n".encode())
            return
        status = answer.value.status()
        write(respond(out), f"{status}\n".encode())
