"""Components that export an HTTP handler, as ASGI applications.

:func:`asgi` makes the application from a runtime and a component; any ASGI server runs it::

    runtime = aegis.Aegis(memory="64MiB", timeout="10s")
    app = aegis.serve.asgi(runtime, runtime.load_file("handler.wasm"))  # uvicorn module:app

Each request has a sandbox of its own under the policy of the runtime. The application and the guest exchange the body
of a request and its response over a socket pair, so an isolated guest works the same.
"""

from __future__ import annotations

from aegis.serve.application import Application as Application
from aegis.serve.application import asgi as asgi
from aegis.serve.report import ServedRequest as ServedRequest
from aegis.serve.response import ResponseCutOff as ResponseCutOff

__all__ = ["Application", "ResponseCutOff", "ServedRequest", "asgi"]
