"""The public class of sandboxes. :mod:`aegis.sandbox.run` has their state and life cycle."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aegis.engine import Module
from aegis.engine.call.caller import Elsewhere
from aegis.errors import AegisError, CallError, SandboxStateError
from aegis.observe.bus import EventBus
from aegis.observe.outcome import Outcome, Usage
from aegis.sandbox.guest_state import Globals, Memory
from aegis.sandbox.run import GuestRun
from aegis.support.lean import TYPE_CHECKING, Any, replace
from aegis.wit.err import Err

if TYPE_CHECKING:
    import _socket

    from aegis.component.planning.artifact import Component
    from aegis.engine.store.memory import LinearMemory
    from aegis.host.net.http.served_frames import ServedHead
    from aegis.sandbox.backend import State
    from aegis.sandbox.component import SandboxComponent
    from aegis.sandbox.exports import Exports
    from aegis.wit.types import Interface

__all__ = ["Sandbox"]


class Sandbox:
    """One run of one guest, with its grants, limits and usage. :meth:`aegis.Aegis.sandbox` creates it.

    A sandbox is a context manager that frees the guest at the end of the block::

        runtime = aegis.Aegis(memory="64MiB", timeout="2s")
        with runtime.sandbox(runtime.load_file("add.wasm")) as sandbox:
            sandbox.call("add", 2, 3)  # 5

    A sandbox runs one call at a time. Threads may use it in turn; a thread that calls while another call is under way
    gets :class:`~aegis.errors.SandboxStateError` with the state ``busy``. A call that ends with a trap, an exit, an
    exceeded limit or an error of a host function leaves the sandbox ``poisoned``, because the guest may have stopped
    while it changed its memory; :meth:`reset` starts a new guest. If the worker process of an isolated sandbox dies
    (:class:`~aegis.errors.WorkerCrashed`), nothing of the guest is left, and the next call resets the sandbox.
    """

    __slots__ = ("__weakref__", "_fast", "_run")

    def __init__(self, run: GuestRun) -> None:
        self._run = run
        self._fast = run.fast  # the same dictionary for the life of the run

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *exception: object) -> None:
        self._run.close()

    # -- life ----------------------------------------------------------------------------------

    def load(self, module: Module | Component) -> Sandbox:
        """Instantiate a module or component in an empty sandbox, and return the sandbox.

        A start function runs under the limits of a call. Raise :class:`~aegis.errors.LinkError` for imports that
        nothing provides, :class:`~aegis.errors.PolicyError` for a grant that cannot be acquired,
        :class:`~aegis.errors.SandboxStateError` if the sandbox is not empty, and the errors of :meth:`call` for a start
        function that does not return.
        """
        self._run.load(module)
        return self

    def load_module(self, module: Module | Component) -> Sandbox:
        """Instantiate ``module``; an alias of :meth:`load`."""
        return self.load(module)

    def register_func(self, module: str, name: str, function: Callable[..., Any]) -> None:
        """Provide ``function`` for the import ``module.name`` of a core module, before :meth:`load`.

        It gets the guest's arguments as int and float, and returns the result, a tuple for several. Raise
        :class:`~aegis.errors.LinkError` for a function that cannot serve the import, and
        :class:`~aegis.errors.SandboxStateError` after :meth:`load`.
        """
        self._run.register(module, name, function)

    def reset(self) -> None:
        """Replace the guest by a new instance of the same artifact, with new grants and full limits.

        Nothing of the old guest remains: memory, globals, handles, open files, usage and captured output are new. Raise
        :class:`~aegis.errors.SandboxStateError` if the sandbox is empty or busy, and the errors of :meth:`load`.
        """
        self._run.reset()

    def close(self) -> None:
        """Free the guest and its grants; a second close does nothing.

        Raise :class:`~aegis.errors.SandboxStateError` while a call is under way.
        """
        self._run.close()

    async def areset(self) -> None:
        """Like :meth:`reset`, on a thread of Aegis, as :meth:`acall` is like :meth:`call`."""
        from aegis.sandbox.awaited import on_loop

        await on_loop(self._run, self._run.reset)

    async def aclose(self) -> None:
        """Like :meth:`close`, on a thread of Aegis. If the task is cancelled, close the sandbox before it ends."""
        from aegis.engine.threads.event_loop import finish_on_loop

        await finish_on_loop(self._run.close)

    async def __aenter__(self) -> Sandbox:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    # -- calls ---------------------------------------------------------------------------------

    def call(self, name: str, *args: Any) -> Any:
        """Call the export ``name``; return its result, a tuple for several, ``None`` for no result.

        A core module takes and returns int (i32, i64) and float (f32, f64). A component takes and returns the Python
        values of its WIT types; a function of an interface is named ``"interface#function"``.

        The first call of a WASI reactor, a module that exports ``_initialize`` and no ``_start``, calls ``_initialize``
        before, with the limits of a call of its own. An error of it is an error of the call.

        Raise :class:`~aegis.errors.CallError` for arguments that do not match the signature, before the guest runs. If
        the guest does not return, raise the reason: a :class:`~aegis.errors.GuestError` (a trap, an exit, an exceeded
        limit), a :class:`~aegis.errors.HostError` with the exception of the host function as its cause, or
        :class:`~aegis.errors.Cancelled`; :class:`aegis.Err` for the error case of a component's ``result``::

            sandbox.call("divide", 7, 2)  # 3
            sandbox.call("divide", 1, 0)  # GuestTrap: the guest trapped: integer divide by zero
        """
        # A copy of GuestRun.call: calling it would make a short call a third slower.
        try:
            return self._fast[name](*args)
        except (KeyError, Elsewhere):
            pass
        except BaseException as error:
            self._run.failed(name, args, error)
            raise
        return self._run.call_unprepared(name, args)

    def call_void(self, name: str, *args: Any) -> None:
        """Call the export ``name`` and drop its results."""
        self.call(name, *args)

    def call_many(self, name: str, columns: Sequence[Any], out: Any = None, *, rows: int | None = None) -> Any:
        """Call the export ``name`` once for each row of ``columns``, under one deadline and one fuel limit.

        The function must have numbers, bools and characters as parameters, and at most one result. ``columns`` has one
        buffer for each parameter, one-dimensional and of equal lengths: :class:`array.array`, memoryview, NumPy arrays.
        Elements are in the machine's byte order and have the width of their type: 4 bytes for i32, 8 for i64,
        signed or unsigned (a component's type fixes the sign), 1 byte of 0 or 1 for a bool, 4 bytes with the code point
        for a character. ``rows`` is the number of rows for a function without parameters.

        Return ``out`` if given, a writable buffer of one element per row, which may be one of the columns; otherwise a
        new :class:`array.array`; ``None`` for a function without a result. The bytes of columns and results count
        towards the limit ``host_bytes``.

        Raise :class:`~aegis.errors.CallError` for buffers that do not match, before the guest runs. Other errors are
        those of :meth:`call`. Their ``row`` is the row under way, counted from 0; the results of earlier rows are in
        ``out``, or in ``partial`` of the error. If Aegis had to kill the worker of an isolated guest, the results of
        the last milliseconds are lost, and ``row`` is the first row without a result::

            sandbox.call_many("add", [array("i", [1, 2]), array("i", [3, 4])])  # array("i", [4, 6])
        """
        from aegis.sandbox.columns import call_many  # imported late: few programs call over columns

        return call_many(self._run, name, columns, out, rows)

    def run(self, name: str, *args: Any) -> Outcome:
        """Call the export ``name`` and return an :class:`~aegis.Outcome`, also if the guest does not return.

        The outcome has the result or the error, the usage of this call, the captured output and the denials. Raise only
        the mistakes of the embedder, :class:`~aegis.errors.CallError` and :class:`~aegis.errors.SandboxStateError`::

            outcome = sandbox.run("divide", 1, 0)
            outcome.status  # "trap"
            outcome.usage.seconds  # duration of the call in seconds
        """
        run = self._run
        run.live()
        mark = run.meter.mark()
        door, before, component = run.door, run.door.first_denials, run.component
        door.first_denials, run.fuel_before = (), None
        value, ended = None, None
        try:
            value = self.call(name, *args)
            if component is not None:
                value = component.outcome_value(name, value)
        except (CallError, SandboxStateError):
            raise
        except Err as declared:
            value = declared
        except AegisError as error:
            ended = error
        finally:
            denials, door.first_denials = door.first_denials, before
        used = run.meter.since(mark)
        if run.fuel_before is not None:  # this outcome is also that of the reactor's _initialize
            used = replace(used, fuel=(used.fuel or 0) + run.fuel_before)
        if ended is not None:
            return Outcome.from_error(ended, usage=used, stdout=self.stdout, stderr=self.stderr, denials=denials)
        return Outcome(value=value, usage=used, stdout=self.stdout, stderr=self.stderr, denials=denials)

    async def acall(self, name: str, *args: Any) -> Any:
        """Like :meth:`call`, on a thread of Aegis, so that the event loop can run other tasks meanwhile.

        Cancelling the task cancels the call. Host functions that are coroutine functions, or return an awaitable, are
        awaited on this loop. An exception of a host function that would end the loop (``SystemExit``,
        ``KeyboardInterrupt``, ``CancelledError``) becomes a :class:`~aegis.errors.HostError`. The number of calls that
        run at once is bounded; a queued call's deadline starts when the call does.

        Of an asynchronous component (WASI 0.3) several calls may be under way at once. Cancelling the task of one
        cancels that call in the guest (``task.cancel``) and leaves the others, if the guest confirms it in time::

            async with asyncio.TaskGroup() as group:
                first = group.create_task(sandbox.acall("fetch", "a"))
                second = group.create_task(sandbox.acall("fetch", "b"))
        """
        from aegis.sandbox.awaited import awaited_call

        return await awaited_call(self._run, name, args)

    async def acall_many(self, name: str, columns: Sequence[Any], out: Any = None, *, rows: int | None = None) -> Any:
        """Like :meth:`call_many`, on a thread of Aegis, as :meth:`acall` is like :meth:`call`."""
        from aegis.sandbox.awaited import on_loop

        return await on_loop(self._run, lambda: self.call_many(name, columns, out, rows=rows))

    async def aserve(self, head: ServedHead, connection: _socket.socket) -> tuple[Outcome, bytes]:
        """Have a component that exports an HTTP handler serve one request, for :func:`aegis.serve.asgi`.

        Frames of :mod:`aegis.host.net.http.served_frames` pass on ``connection``, which is closed at the end. Return
        the outcome, as :meth:`run` does, and the bytes that the connection had no room for. Raise
        :class:`~aegis.errors.LinkError` for a component without a handler.
        """
        from aegis.sandbox.serving import awaited_request  # imported late: few programs serve requests

        return await awaited_request(self._run, head, connection)

    def cancel(self) -> None:
        """End the call under way; do nothing if there is none. Any thread may call this.

        The call raises :class:`~aegis.errors.Cancelled`. A host function under way is not interrupted; if it does not
        return soon, the call ends without it and the sandbox is ``abandoned``.
        """
        self._run.cancel()

    # -- components ----------------------------------------------------------------------------

    @property
    def exports(self) -> Exports:
        """The exports of a component by name: functions as callables, interfaces as namespaces.

        A namespace has the functions of its interface in snake_case and its resources as classes in PascalCase. Raise
        :class:`~aegis.errors.SandboxStateError` for a core module, which has no typed exports::

            sandbox.exports["acme:geometry/shapes"].Circle(2.0).area()
        """
        return self._component().exports()

    def bind(self, interface: Interface) -> Any:
        """Return an exported interface as an object that takes and returns the classes of generated bindings.

        ``interface`` is the constant ``INTERFACE`` of a generated module; one without a name stands for the functions
        that the world itself exports. Raise :class:`~aegis.errors.LinkError` if the component does not export the
        interface, or with other types.
        """
        return self._component().bind(interface)

    def abind(self, interface: Interface) -> Any:
        """Return an exported interface like :meth:`bind`, with functions to await, as :meth:`acall` calls them.

        A resource has a class whose constructor, static functions and methods are to be awaited; a method takes the
        handle first, and so does ``drop``::

            shop = sandbox.abind(acme_shop_exports.INTERFACE)
            basket = await shop.Basket("Ada")
            await shop.Basket.add(basket, "tea")
        """
        from aegis.sandbox.awaited import async_namespace

        return async_namespace(self._run, self._component().bind(interface), interface)

    def _component(self) -> SandboxComponent:
        self._run.live()
        found = self._run.component
        if found is None:
            raise SandboxStateError(
                "the sandbox holds a core module, which has no typed exports: use call()", state="ready"
            )
        return found

    # -- state ---------------------------------------------------------------------------------

    @property
    def module(self) -> Module | Component | None:
        """The module or component of this sandbox, ``None`` if it is empty."""
        return self._run.artifact

    @property
    def state(self) -> State:
        """``empty``, ``ready``, ``poisoned``, ``resetting``, ``abandoned`` or ``closed``.

        ``poisoned``: a call did not return; ``abandoned``: a host function does not return, and its thread keeps the
        guest. :meth:`reset` makes either ready.
        """
        return self._run.state

    @property
    def memory(self) -> Memory:
        """The exported linear memory of the guest, by copies."""
        return Memory(self._run)

    @property
    def globals(self) -> Globals:
        """The exported globals of the guest."""
        return Globals(self._run)

    @property
    def usage(self) -> Usage:
        """The resources used since the sandbox was created or reset; fuel and seconds are those of the latest call."""
        return self._run.meter.total()

    def tally(self) -> tuple[int | None, int, int]:
        """Return the fuel of the latest call, and the number of host calls and the bytes of memory so far.

        The values are those of :attr:`usage`, for much less time; the fuel is ``None`` if it is not limited.
        """
        return self._run.meter.tally()

    def tally_reader(self) -> Callable[[], tuple[int | None, int, int]]:
        """Return a function that does what :meth:`tally` does, in half of the time or less, until the next reset."""
        store = self._run.store
        return self.tally if store is None else store.tally_reader(self._run, self.tally)

    def added_memories(self) -> tuple[LinearMemory, ...]:
        """Return access to the memories that :mod:`aegis.wasm.rewrite` added to the guest's modules.

        There is one for each instance of an instrumented module, in the order of their instantiation; none in an
        isolated sandbox. They are valid until the sandbox is closed or reset; use them between calls.
        """
        with self._run.held() as store:
            return store.added_memories()

    @property
    def stdout(self) -> bytes:
        """The bytes that the guest wrote to stdout, if the policy captures it."""
        return self._run.meter.output(1)

    @property
    def stderr(self) -> bytes:
        """The bytes that the guest wrote to stderr, if the policy captures it."""
        return self._run.meter.output(2)

    @property
    def undelivered(self) -> tuple[str, OSError] | None:
        """The name of the first inherited stream that failed to deliver output, and its error; ``None`` if none did."""
        grants = self._run.grants
        return self._run.meter.undelivered if grants is None else grants.stdio.failure()

    @property
    def layers(self) -> tuple[tuple[str, bool, str], ...]:
        """The layers that confine the worker of an isolated sandbox: name, whether it is in force, details or reason.

        Empty for a guest in this process.
        """
        store = self._run.store
        return self._run.layers if store is None else store.layers

    @property
    def events(self) -> EventBus:
        """The event bus of this sandbox. ``events.failures`` has the subscribers that were removed for an exception."""
        return self._run.bus

    def __repr__(self) -> str:
        return f"<aegis sandbox {self._run.state} of {self._run.artifact!r}>"
