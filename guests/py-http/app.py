"""A client of wasi:http: `get URL`, `post URL TEXT`; it prints the status, the body and the trailers."""

import sys

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import outgoing_handler, streams
from wit_world.imports import wasi_http_types as types


def request(method, url):
    scheme, _, rest = url.partition("://")
    authority, _, path = rest.partition("/")
    made = types.OutgoingRequest(types.Fields.from_list([("accept", b"text/plain")]))
    made.set_method(method)
    made.set_scheme(types.Scheme_Https() if scheme == "https" else types.Scheme_Http())
    made.set_authority(authority)
    made.set_path_with_query("/" + path)
    return made


def send(made, body):
    outgoing = made.body()
    future = outgoing_handler.handle(made, None)
    with outgoing.write() as stream:
        for n in range(0, len(body), 4096):
            stream.blocking_write_and_flush(body[n : n + 4096])
    types.OutgoingBody.finish(outgoing, None)
    return response(future)


def response(future):
    with future.subscribe() as pollable:
        pollable.block()
    outcome = future.get()
    if not isinstance(outcome, Ok):
        raise RuntimeError("the response was taken before")
    if isinstance(outcome.value, Err):
        raise Err(outcome.value.value)
    return outcome.value.value


def read(incoming):
    body = incoming.consume()
    data = b""
    with body.stream() as stream:
        while True:
            try:
                data += stream.blocking_read(65536)
            except Err as end:
                if not isinstance(end.value, streams.StreamError_Closed):
                    raise
                break
    with types.IncomingBody.finish(body) as future:
        with future.subscribe() as pollable:
            pollable.block()
        trailers = future.get().value.value
    return data, trailers.entries() if trailers is not None else []


class Run(exports.Run):
    def run(self):
        command, url, *words = sys.argv[1:]
        try:
            if command == "get":
                made = request(types.Method_Get(), url)
                incoming = response(outgoing_handler.handle(made, None))
            else:
                incoming = send(request(types.Method_Post(), url), " ".join(words).encode())
            data, trailers = read(incoming)
            print(incoming.status(), data.decode(), trailers)
        except Err as error:
            print("refused:", type(error.value).__name__)
