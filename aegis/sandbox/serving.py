"""Calls of a component's exported HTTP handler: one request and its response through one connection to the server.

:mod:`aegis.serve` has the other end of the connection. The arguments are resources of the host, which live where WASI
does: in this process or in the worker. So an isolated guest's worker makes them itself, from the head of the request.
"""

from __future__ import annotations

import _socket
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ref

from aegis.bindings import index
from aegis.component.planning.world import compatible_interface
from aegis.component.tasks.callee import BoundCallee
from aegis.component.tasks.entry import TaskEntry
from aegis.engine import Module
from aegis.errors import AegisError, LinkError, SandboxStateError
from aegis.observe.outcome import Outcome
from aegis.sandbox.awaited import on_loop
from aegis.sandbox.entry_points import HANDLERS
from aegis.sandbox.exports import BoundName
from aegis.sandbox.instantiate import wasi_of
from aegis.text import printable
from aegis.wit.match import Mismatch, merged
from aegis.wit.types import Interface

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component
    from aegis.host.net.http.served_frames import ServedHead
    from aegis.sandbox.backend import Run
    from aegis.sandbox.run import GuestRun

__all__ = ["ExportedHandler", "awaited_request", "call_handler", "handler_of", "serve"]


class ExportedHandler(NamedTuple):
    """The handler that a component exports: the name for its calls, and the module that makes their arguments."""

    name: BoundName
    module: str


def handler_of(component: Module | Component) -> ExportedHandler:
    """Return the handler of a component; raise ``LinkError`` if it exports none, or one of an unknown version."""
    if isinstance(component, Module):
        raise LinkError(f"a core module serves no HTTP: build a component that exports {HANDLERS[0]}")
    found: ExportedHandler = component.planned("handler", lambda: _found_handler(component))
    return found


def _found_handler(component: Component) -> ExportedHandler:
    exports = component.world.exports
    for interface in reversed(HANDLERS):  # the newer one first
        for row in (row for row in index.INDEX.rows if row.interface == interface):
            full = compatible_interface(exports, row.name)
            if full is None or index.INDEX.find(full) is not row:
                continue
            table = import_module(row.bindings).INTERFACE
            _check(full, exports[full], table)
            return ExportedHandler(BoundName(full, "handle", table), _arguments_of(row.interface, full))
    found = [name for name in exports if name.partition("@")[0] in HANDLERS]
    if found:
        raise LinkError(f"the component exports {printable(found[0], 80)}, a version that Aegis does not serve")
    raise LinkError(
        f"the component exports no HTTP handler: build it with an export of {HANDLERS[0]}@0.2 or {HANDLERS[1]}@0.3"
    )


def _arguments_of(interface: str, full: str) -> str:
    """Return the module that implements ``wasi:http/types`` in the version of a handler."""
    row = index.INDEX.served(f"wasi:http/types@{full.partition('@')[2]}")
    if row is None:
        raise LinkError(f"the component exports {printable(full, 80)}, a version that Aegis does not serve")
    return row.implementation


def _check(full: str, item: Any, table: Interface) -> None:
    """Raise ``LinkError`` unless the exported function has the type in the bindings."""
    function = item.functions.get("handle") if isinstance(item, Interface) else None
    if function is None:
        raise LinkError(f"the component's {printable(full, 80)} has no function handle")
    try:
        merged(function, table.functions["handle"])
    except Mismatch as mismatch:
        raise LinkError(f"{printable(full, 80)}#handle differs from that of {table.name}: {mismatch}") from None


def serve(run: GuestRun, head: ServedHead, connection: _socket.socket) -> bytes:
    """Have the guest of ``run`` serve one request; call this on a guest thread, as for other calls.

    Return the last bytes for the server, which the connection had no room for. They begin anywhere in a frame of
    :mod:`aegis.host.net.http.served_frames`. The caller closes the connection. Raise the errors of a call.
    """
    handler = handler_of(run.loaded())
    try:
        store: Any = run.live()
        run.bus.refuse_subscribers()
        if not run.observed:
            return run.backend.serve(run, store, handler, head, connection)
        with run.meter.observing(handler.name, ()):
            return run.backend.serve(run, store, handler, head, connection)
    except BaseException as error:
        run.failed(handler.name, (), error)
        raise


async def awaited_request(run: GuestRun, head: ServedHead, connection: _socket.socket) -> tuple[Outcome, bytes]:
    """Have the guest serve one request on a guest thread; see :meth:`aegis.Sandbox.aserve`."""
    run.live()
    mark = run.meter.mark()
    door = run.door
    before, door.first_denials = door.first_denials, ()
    rest, ended = b"", None

    def call() -> bytes:
        try:
            return serve(run, head, connection)
        finally:  # on this thread: the server sees the end at once
            _shut(connection)

    try:
        rest = await on_loop(run, call)
    except (LinkError, SandboxStateError):
        raise
    except AegisError as error:
        ended = error
    finally:
        denials, door.first_denials = door.first_denials, before
        _shut(connection)  # a call that was cancelled before its turn has not done it
    usage = run.meter.since(mark)
    kept: dict[str, Any] = {
        "usage": usage, "stdout": run.meter.output(1), "stderr": run.meter.output(2), "denials": denials,
    }  # fmt: skip
    return Outcome(**kept) if ended is None else Outcome.from_error(ended, **kept), rest


def _shut(connection: _socket.socket) -> None:
    """Close a connection. A worker may keep its copy of the descriptor, which the shutdown makes useless."""
    with suppress(OSError):  # it is closed already
        connection.shutdown(_socket.SHUT_RDWR)
    connection.close()


def call_handler(run: Run, store: Any, handler: ExportedHandler, head: ServedHead, connection: _socket.socket) -> bytes:
    """Call the handler of a store in this process; see :func:`serve`."""
    wasi = wasi_of(ref(run))
    call = import_module(handler.module).served_call(wasi, head, connection)
    try:
        entry = store.plan.entry(handler.name)
        if entry.function.is_async:
            store.turn()(partial(_run_task, store, entry, call))
        else:
            store.closure(handler.name)(*call.arguments)
    finally:
        rest: bytes = call.finish()
    return rest


def _run_task(store: Any, entry: TaskEntry, call: Any) -> None:
    """Run the guest until the task of the call has ended, and its response is complete or was given up."""
    tasks = store.state.tasks
    tasks.catch_up()
    callee = BoundCallee(entry.callee, store.state)
    task = tasks.begin(callee, lambda: call.arguments, lambda value: call.resolved(value, tasks.expect), None)
    tasks.run(lambda: task.exited and call.over)
