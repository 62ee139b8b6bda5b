"""The sandbox, as an embedder sees it. Its state and its life cycle are those of :mod:`aegis.sandbox.run`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aegis.engine import Module
from aegis.engine.call.caller import Elsewhere
from aegis.errors import AegisError, CallError, SandboxStateError
from aegis.observe.bus import EventBus
from aegis.observe.outcome import Outcome, Usage
from aegis.sandbox.guest_state import Globals, Memory
from aegis.sandbox.run import Run
from aegis.support.lean import TYPE_CHECKING, Any
from aegis.wit.err import Err

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component
    from aegis.sandbox.component import SandboxComponent
    from aegis.sandbox.exports import Exports
    from aegis.wit.types import Interface

__all__ = ["Sandbox"]


class Sandbox:
    """One run of one guest. Make it with :meth:`aegis.Aegis.sandbox`; it is a context manager.

    A sandbox serves one call at a time. Several threads may use it in turn; a second thread that comes while a call is
    under way gets :class:`~aegis.errors.SandboxStateError` (busy). After a trap, an exit, a limit or a host error the
    sandbox is poisoned: ``reset()`` starts a fresh one. When the worker process of an isolated sandbox died
    (:class:`~aegis.errors.WorkerCrashed`), the next call starts afresh by itself.
    """

    __slots__ = ("__weakref__", "_fast", "_run")

    def __init__(self, run: Run) -> None:
        self._run = run
        self._fast = run.fast  # the same dictionary for the life of the run

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *exception: object) -> None:
        self._run.close()

    # -- life ----------------------------------------------------------------------------------

    def load(self, module: Module | Component) -> Sandbox:
        """Instantiate ``module``, running its start function under the call limits. Return the sandbox.

        Raise :class:`~aegis.errors.LinkError` for imports that nothing provides, :class:`~aegis.errors.PolicyError`
        for a grant that cannot be acquired, and what the start function ended with.
        """
        self._run.load(module)
        return self

    def load_module(self, module: Module | Component) -> Sandbox:
        """Instantiate ``module``: another name of :meth:`load`."""
        return self.load(module)

    def register_func(self, module: str, name: str, function: Callable[..., Any]) -> None:
        """Offer ``function`` as the import ``module.name``; before :meth:`load`."""
        self._run.register(module, name, function)

    def reset(self) -> None:
        """Start the module afresh: a new store, new grants, full budgets. Nothing of the old run stays."""
        self._run.reset()

    def close(self) -> None:
        """Free the guest and its grants; a second close does nothing."""
        self._run.close()

    # -- calls ---------------------------------------------------------------------------------

    def call(self, name: str, *args: Any) -> Any:
        """Call the export ``name`` and return its result, a tuple of several, ``None`` of none.

        Raise what ended the call otherwise: a :class:`~aegis.errors.GuestError`, a
        :class:`~aegis.errors.HostError` with the host function's exception as its cause,
        :class:`~aegis.errors.Cancelled`; :class:`~aegis.errors.CallError` when the arguments do not
        fit, and then the guest was not entered.
        """
        # As Run.call, which would cost a third of the time of a call in between.
        try:
            return self._fast[name](*args)
        except (KeyError, Elsewhere):
            pass
        except BaseException as error:
            self._run.failed(name, args, error)
            raise
        return self._run.call_unprepared(name, args)

    def call_void(self, name: str, *args: Any) -> None:
        """Call the export ``name`` for its effects; its results are dropped."""
        self.call(name, *args)

    def call_many(self, name: str, columns: Sequence[Any], out: Any = None, *, rows: int | None = None) -> Any:
        """Call the export ``name`` once for each row of ``columns``, as one call with one deadline and one fuel.

        The function has numbers, bools and characters as parameters, and at most one result. ``columns`` is a list of
        one-dimensional buffers of equal length, one for each parameter: :class:`array.array`, memoryview, NumPy
        arrays. Elements have the type's width in the machine's byte order: 4 bytes for i32 and 8 for i64, of either
        sign; for a component, of the sign that its type says; a bool is a byte of 0 or 1, a character 4 bytes with its
        code point. ``rows`` says how many rows there are where no column does.

        Return the results: ``out``, a writable buffer of as many elements, which may be one of the columns; or a new
        array without it; ``None`` for a function without a result. Bytes of columns and results count towards
        ``host_bytes``.

        Raise :class:`~aegis.errors.CallError` for buffers that do not fit, and then the guest was not entered. What
        else ends the call is raised as by :meth:`call`: its ``row`` is the row under way, from 0, and the results of
        the rows before it are in ``out``, or in the error's ``partial``. A worker that had to be killed takes the
        results of the last milliseconds with it, and ``row`` is the first one that is missing::

            sandbox.call_many("add", [array("i", [1, 2]), array("i", [3, 4])])  # array("i", [4, 6])
        """
        from aegis.sandbox.columns import call_many  # few sandboxes make such calls

        return call_many(self._run, name, columns, out, rows)

    def run(self, name: str, *args: Any) -> Outcome:
        """Call the export ``name`` and return how it ended; nothing that a guest does is raised.

        Raise :class:`~aegis.errors.CallError` and :class:`~aegis.errors.SandboxStateError`, which are
        the embedder's mistakes.
        """
        run = self._run
        run.live()
        mark = run.meter.mark()
        door, before, component = run.door, run.door.refused, run.component
        door.refused = ()
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
            denials, door.refused = door.refused, before
        used = run.meter.since(mark)
        if ended is not None:
            return Outcome.from_error(ended, usage=used, stdout=self.stdout, stderr=self.stderr, denials=denials)
        return Outcome(value=value, usage=used, stdout=self.stdout, stderr=self.stderr, denials=denials)

    async def acall(self, name: str, *args: Any) -> Any:
        """Like :meth:`call`, on a guest thread; the event loop goes on meanwhile.

        Cancelling the task cancels the call. Host functions that are coroutine functions, or return an
        awaitable, are awaited on this loop. What a host function raises that would end the loop
        (``SystemExit``, ``KeyboardInterrupt``, ``CancelledError``) is a :class:`~aegis.errors.HostError` here.
        So many calls run at once, and more wait their turn, which does not count as their time.
        """
        from aegis.engine.threads.event_loop import supervise_on_loop

        run = self._run
        return await supervise_on_loop(lambda: self.call(name, *args), run.door, run.cancel_now, run.leave)

    async def acall_many(self, name: str, columns: Sequence[Any], out: Any = None, *, rows: int | None = None) -> Any:
        """Like :meth:`call_many`, on a guest thread, as :meth:`acall` does it."""
        from aegis.engine.threads.event_loop import supervise_on_loop

        run = self._run
        call = lambda: self.call_many(name, columns, out, rows=rows)  # noqa: E731 - one line of a coroutine
        return await supervise_on_loop(call, run.door, run.cancel_now, run.leave)

    def cancel(self) -> None:
        """End the call under way, from any thread; without one, do nothing."""
        self._run.cancel()

    # -- components ----------------------------------------------------------------------------

    @property
    def exports(self) -> Exports:
        """The exports of the guest by name: functions, and a component's interfaces with their resources."""
        return self._component().exports()

    def bind(self, interface: Interface) -> Any:
        """Return the exported ``interface`` as an object whose values are of the classes of its bindings.

        ``interface`` is the table of generated bindings; one without a name is the world's own functions.
        Raise :class:`~aegis.errors.LinkError` when the guest's types are not the table's.
        """
        return self._component().bind(interface)

    def _component(self) -> SandboxComponent:
        self._run.live()
        found = self._run.component
        if found is None:
            raise SandboxStateError(
                "the sandbox holds a core module; exports with types are a component's", state="ready"
            )
        return found

    # -- state ---------------------------------------------------------------------------------

    @property
    def module(self) -> Module | Component | None:
        """The module or component that this sandbox runs."""
        return self._run.artifact

    @property
    def state(self) -> str:
        """``empty``, ``ready``, ``poisoned``, ``resetting``, ``abandoned`` or ``closed``."""
        return self._run.state

    @property
    def memory(self) -> Memory:
        """The guest's memory, by copies."""
        return Memory(self._run)

    @property
    def globals(self) -> Globals:
        """The guest's exported globals."""
        return Globals(self._run)

    @property
    def usage(self) -> Usage:
        """What was used since the sandbox was made or reset; fuel and seconds of the latest call."""
        return self._run.meter.total()

    def tally(self) -> tuple[int | None, int, int]:
        """Return the latest call's fuel, the host calls and the memory so far, as in ``usage`` and much cheaper."""
        return self._run.meter.tally()

    @property
    def stdout(self) -> bytes:
        """What the guest wrote to a captured stdout."""
        return self._run.meter.output(1)

    @property
    def stderr(self) -> bytes:
        """What the guest wrote to a captured stderr."""
        return self._run.meter.output(2)

    @property
    def undelivered(self) -> tuple[str, OSError] | None:
        """The inherited stream that could not take the guest's output, and why; ``None`` when it could."""
        grants = self._run.grants
        return self._run.meter.undelivered if grants is None else grants.stdio.failure()

    @property
    def layers(self) -> tuple[tuple[str, bool, str], ...]:
        """Of an isolated sandbox, the layers that confine its worker: name, whether it is there, what or why not."""
        store = self._run.store
        return self._run.layers if store is None else store.layers

    @property
    def events(self) -> EventBus:
        """The run's bus; ``events.failures`` holds subscribers that raised and were dropped."""
        return self._run.bus

    def __repr__(self) -> str:
        return f"<aegis sandbox {self._run.state} of {self._run.artifact!r}>"
