"""The server of ``aegis serve``: uvicorn on one socket, ended by SIGINT and SIGTERM.

uvicorn parses HTTP, keeps connections alive and ends them, and is well tested. It is an extra, because applications
that use :mod:`aegis.serve` bring their own server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from aegis.errors import AegisInternalError, PolicyError
from aegis.serve import asgi
from aegis.text import printable

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component
    from aegis.engine.compile.artifact import Module
    from aegis.runtime import Aegis
    from aegis.serve import ServedRequest

__all__ = ["Server"]

_BACKLOG_CONNECTIONS = 2048
_GRACE_SECONDS = 5
"""Time at the end beyond that of requests: their deadline, and as long for clients to take the rest of responses."""
_UNLIMITED_SECONDS = 30
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Server:
    """Listens at an address from its creation on; a context manager that closes the socket."""

    def __init__(self, host: str, port: int) -> None:
        self._uvicorn = _uvicorn()
        self._socket = _listening(host, port)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()

    @property
    def address(self) -> str:
        """The URL of the server."""
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def run(
        self, runtime: Aegis, component: Module | Component, settings: Mapping[str, Any],
        on_request: Callable[[ServedRequest], None], started: Callable[[str], None],
    ) -> None:  # fmt: skip
        """Serve until a signal comes; call ``started`` with the address when requests are taken."""
        app = asgi(runtime, component, on_request=on_request, **settings)
        timeout = runtime.policy.limits.timeout
        grace = _UNLIMITED_SECONDS if timeout is None else math.ceil(2 * timeout) + _GRACE_SECONDS
        _silence()
        config = self._uvicorn.Config(
            app, http="h11", loop="asyncio", ws="none", lifespan="on", log_config=None, access_log=False,
            server_header=False, date_header=True, backlog=_BACKLOG_CONNECTIONS, timeout_graceful_shutdown=grace,
        )  # fmt: skip
        asyncio.run(self._serve(config, started))

    async def _serve(self, config: Any, started: Callable[[str], None]) -> None:
        made = _server_class(self._uvicorn, lambda: started(self.address))(config)
        with _ended_by_signals(made):
            await made.serve(sockets=[self._socket])
        if not made.started:
            raise AegisInternalError("the server did not start")


def _uvicorn() -> Any:
    try:
        import uvicorn
    except ImportError:
        raise PolicyError("aegis serve needs the extra serve: pip install 'aegis-wasm[serve]'") from None
    return uvicorn


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address; raise ``PolicyError`` if none can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(_BACKLOG_CONNECTIONS)
    except OSError as error:
        made.close()
        reason = printable((error.strerror or str(error)).lower(), 100)
        place = printable(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", 120)
        raise PolicyError(f"cannot listen at {place}: {reason}: choose another --address") from None
    return made


def _silence() -> None:
    """Print nothing of uvicorn's own log: Aegis reports each request that failed, and a traceback would repeat it."""
    logger = logging.getLogger("uvicorn")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False


def _server_class(uvicorn: Any, started: Callable[[], None]) -> Any:
    """Return the class of servers that call ``started``, and leave signals alone: uvicorn would raise them again."""

    class SilentServer(uvicorn.Server):  # type: ignore[misc]  # a class that is known when this runs
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            if self.started:
                started()

    return SilentServer


@contextlib.contextmanager
def _ended_by_signals(server: Any) -> Iterator[None]:
    """Have the first signal complete the requests under way, and a second one end them."""
    loop = asyncio.get_running_loop()

    def end() -> None:
        server.force_exit = server.should_exit
        server.should_exit = True

    for number in _SIGNALS:
        loop.add_signal_handler(number, end)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
