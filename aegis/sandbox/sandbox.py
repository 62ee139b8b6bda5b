"""A sandbox: one run of one guest, with its grants, its budgets and its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from threading import Lock as allocate_lock
from types import MappingProxyType

from aegis import host
from aegis.engine import Module
from aegis.engine.call.caller import Elsewhere
from aegis.engine.call.door import Door
from aegis.engine.store.memory import LinearMemory
from aegis.engine.store.store import Store
from aegis.engine.threads.guest_thread import Job
from aegis.engine.threads.supervisor import supervise
from aegis.errors import AegisError, CallError, ExportNotFound, GuestExit, SandboxStateError, WorkerCrashed
from aegis.observe.bus import SILENT, EventBus, Subscriber
from aegis.observe.outcome import Outcome, Usage
from aegis.sandbox.guest_state import Globals, Memory
from aegis.sandbox.in_process import release
from aegis.sandbox.instantiate import instantiate
from aegis.sandbox.link_module import Faults, Functions, checked, collect, faulty, linked
from aegis.sandbox.meter import Meter
from aegis.support.lean import TYPE_CHECKING, Any
from aegis.text import printable
from aegis.values import Decision
from aegis.wit.declared import Err

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component
    from aegis.host.preview2 import Wasi
    from aegis.policy import StdioCapability
    from aegis.sandbox.component import ComponentGuest
    from aegis.sandbox.exports import Exports
    from aegis.sandbox.in_process import Place
    from aegis.wit.types import Interface
    from aegis.wit.values import ResourceHandle


__all__ = ["Sandbox"]

_NO_STORE = "the sandbox holds no module yet; load one first"
_REASONS = {
    "closed": "the sandbox is closed",
    "resetting": "the sandbox is being reset by another thread",
    "abandoned": "the sandbox is abandoned: a host function in it does not return",
}


class Sandbox:
    """One run of one guest. Make it with :meth:`aegis.Aegis.sandbox`; it is a context manager.

    A sandbox serves one call at a time. It may be used from several threads in turn; a second thread
    that comes while a call is under way gets :class:`~aegis.errors.SandboxStateError` (busy). After a
    trap, an exit, a limit or a host error it is poisoned: ``reset()`` starts a fresh one. When the worker process
    of an isolated sandbox died (:class:`~aegis.errors.WorkerCrashed`), the next call starts afresh by itself.
    """

    def __init__(
        self,
        tier: Place,
        module: Module | Component | None = None,
        *,
        imports: Mapping[str, Any] | None = None,
        args: Sequence[str] = (),
        subscribers: Sequence[Subscriber] = (),
        stdio: StdioCapability | None = None,
        measured: bool = False,
        denied: Callable[[Decision], None] | None = None,
        trap_missing: bool = False,
        faults: Faults | None = None,
    ) -> None:
        self._tier = tier
        self._door = tier.door()
        self._fast: dict[str, Callable[..., Any]] = {}
        self._life = allocate_lock()
        if imports:
            self._imports = imports
        if trap_missing:
            self._trap_missing = True
        if args:
            self._args = tuple(args)
        if stdio is not None:
            self._stdio = stdio
        if subscribers or tier.subscribers:
            self._bus = tier.bus(subscribers)
        if denied is not None:
            self._denied = denied
        if faults is not None:
            self._faults = faults
        self._observed = measured or self._bus.active or faults is not None
        if module is not None:
            if module.plain and not self._observed and not imports:
                # Nothing to link, nothing to run, nobody to tell: what is left of load().
                self._module = module
                self._store = tier.plain_store(self, module)  # type: ignore[arg-type]
                self._state = "ready"
            else:
                self.load(module)

    # Class attributes are the state of a new sandbox: making one stores only what differs.
    _args: tuple[str, ...] = ()
    _stdio: StdioCapability | None = None
    _bus = SILENT
    _denied: Callable[[Decision], None] | None = None
    _faults: Faults | None = None
    _imports: Mapping[str, Any] = MappingProxyType({})
    _functions: Functions | None = None
    _trap_missing = False
    _module: Module | Component | None = None
    _guest: ComponentGuest | None = None
    _store: Store | None = None
    _grants: host.Grants | None = None
    _memory: LinearMemory | None = None
    _meter_made: Meter | None = None
    _end: type[BaseException] | None = None  # not the error: its traceback would keep the guest's data in a cycle
    _lost: Door | None = None
    _state = "empty"
    _layers: tuple[tuple[str, bool, str], ...] = ()

    @property
    def _meter(self) -> Meter:
        meter = self._meter_made
        if meter is None:
            meter = self._meter_made = Meter(self)
        return meter

    # -- life ----------------------------------------------------------------------------------

    def load(self, module: Module | Component) -> Sandbox:
        """Instantiate ``module``, running its start function under the call limits. Return the sandbox.

        Raise :class:`~aegis.errors.LinkError` for imports that nothing provides, :class:`~aegis.errors.PolicyError`
        for a grant that cannot be acquired, and what the start function ended with.
        """
        if getattr(module, "kind", None) not in ("module", "component"):
            raise CallError(f"load takes an artifact, not {type(module).__name__}; write load(runtime.load_file(path))")
        if not self._life.acquire(False):
            raise _changed("load it")
        try:
            if self._state != "empty":
                raise SandboxStateError(f"the sandbox is {self._state}; a sandbox runs one module", state=self._state)
            self._module = module
            if self._bus.active:
                self._meter.loaded(module)
            self._start()
        finally:
            self._life.release()
        return self

    def load_module(self, module: Module | Component) -> Sandbox:
        """Instantiate ``module``: another name of :meth:`load`."""
        return self.load(module)

    def register_func(self, module: str, name: str, function: Callable[..., Any]) -> None:
        """Offer ``function`` as the import ``module.name``; before :meth:`load`."""
        if self._state != "empty":
            raise SandboxStateError(
                f"the sandbox is {self._state}; register functions before load()", state=self._state
            )
        if self._functions is None:
            self._functions = {}
        self._functions[module, name] = checked(module, name, function)

    def reset(self) -> None:
        """Start the module afresh: a new store, new grants, full budgets. Nothing of the old run stays."""
        if not self._life.acquire(False):
            raise _changed("reset it")
        try:
            if self._state == "empty":
                raise SandboxStateError(_NO_STORE, state="empty")
            self._retire("reset")
            self._state = "resetting"
            self._release()
            self._door = self._tier.door()
            self._memory = self._meter_made = self._guest = None
            self._end = None
            self._start()
        finally:
            self._life.release()

    def close(self) -> None:
        """Free the guest and its grants; a second close does nothing."""
        if not self._life.acquire(False):
            raise _changed("close it")
        try:
            if self._state != "closed":
                self._retire("close")
                self._state = "closed"
                self._release()
                self._guest = None  # it refers to the sandbox
        finally:
            self._life.release()

    def _start(self) -> None:
        """Open the module's store; one that does not open leaves the sandbox poisoned, to be reset."""
        try:
            self._open()
        except BaseException as error:
            self._release()
            self._state = "poisoned"
            self._end = type(error)
            raise

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _open(self) -> None:
        module = self._loaded()
        functions: Any = ()
        if module.kind == "component":
            self._guest = guest = _guest_class()(self, self._tier, module, self._imports, self._trap_missing)
            functions = guest.functions(self._wasi)
        elif module.info.imports:
            self._memory = self._tier.memory(self._door)
            functions = linked(self, self._tier, module, self._memory)
        elif self._imports:
            collect(self._imports)
        if self._faults is not None:
            self._door.faults = self._faults
            if module.kind == "module":
                functions = faulty(functions, self._faults)
        if self._observed or self._denied is not None:
            self._meter.watch(self._door, self._denied)
        self._store = instantiate(self, functions)
        self._state = "ready"

    def _acquired(self) -> host.Grants:
        """Return the grants of this sandbox, acquired at first use."""
        if self._grants is None:
            self._grants = self._tier.acquire(self)
        return self._grants

    def _wasi(self) -> Wasi:
        """Return WASI 0.2 on the grants of this sandbox."""
        from aegis.host.preview2 import Wasi

        return Wasi(self._acquired(), self._door, self._tier.policy.limits)

    def _release(self) -> None:
        self._fast = {}
        if self._door is self._lost:
            self._door = self._tier.door()
        store, self._store = self._store, None
        if store is not None:
            if self._meter_made is not None:
                self._meter_made.keep(store)
            self._layers = getattr(store, "layers", ())
            store.close()
        grants, self._grants = self._grants, None
        if grants is not None and grants.acquired_stdio is not None:
            self._meter.keep_output(grants)
        release(None, grants, self._door)

    def _retire(self, verb: str) -> None:
        """Make sure that nobody is in the guest, and that nobody enters it any more."""
        if self._store is not None and not self._store.take_token():
            raise SandboxStateError(f"the sandbox is busy: {verb} it after the call under way", state="busy")

    # -- calls ---------------------------------------------------------------------------------

    def call(self, name: str, *args: Any) -> Any:
        """Call the export ``name`` and return its result, a tuple of several, ``None`` of none.

        Raise what ended the call otherwise: a :class:`~aegis.errors.GuestError`, a
        :class:`~aegis.errors.HostError` with the host function's exception as its cause,
        :class:`~aegis.errors.Cancelled`; :class:`~aegis.errors.CallError` when the arguments do not
        fit, and then the guest was not entered.
        """
        try:
            return self._fast[name](*args)
        except (KeyError, Elsewhere):
            pass
        except BaseException as error:
            self._failed(name, args, error)
            raise
        try:
            return self._call(name, args)
        except Elsewhere:
            raise SandboxStateError("the sandbox is busy: another thread replaced its guest", state="busy") from None
        except BaseException as error:
            self._failed(name, args, error)
            raise

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

        return call_many(self, name, columns, out, rows)

    def run(self, name: str, *args: Any) -> Outcome:
        """Call the export ``name`` and return how it ended; nothing that a guest does is raised.

        Raise :class:`~aegis.errors.CallError` and :class:`~aegis.errors.SandboxStateError`, which are
        the embedder's mistakes.
        """
        self._live()
        mark = self._meter.mark()
        door, before, guest = self._door, self._door.refused, self._guest
        door.refused = ()
        value, ended = None, None
        try:
            value = self.call(name, *args)
            if guest is not None:
                value = guest.outcome_value(name, value)
        except (CallError, SandboxStateError):
            raise
        except Err as declared:
            value = declared
        except AegisError as error:
            ended = error
        finally:
            denials, door.refused = door.refused, before
        used = self._meter.since(mark)
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

        return await supervise_on_loop(lambda: self.call(name, *args), self._door, self._cancel_now, self._leave)

    async def acall_many(self, name: str, columns: Sequence[Any], out: Any = None, *, rows: int | None = None) -> Any:
        """Like :meth:`call_many`, on a guest thread, as :meth:`acall` does it."""
        from aegis.engine.threads.event_loop import supervise_on_loop

        call = lambda: self.call_many(name, columns, out, rows=rows)  # noqa: E731 - one line of a coroutine
        return await supervise_on_loop(call, self._door, self._cancel_now, self._leave)

    def cancel(self) -> None:
        """End the call under way, from any thread; without one, do nothing."""
        store = self._store
        if store is not None and store.in_call():
            store.cancel()

    def _call(self, name: str, args: tuple[Any, ...]) -> Any:
        """The way of a first call, of an observed one, and of one from a thread that may not run it."""
        store = self._live()
        if not self._observed:
            return self._enter(store, name, args)
        self._bus.refuse_subscribers()
        store.plan.entry(name)
        if store.entered_here():
            return self._enter(store, name, args)
        with self._meter.observing(name, args):
            return self._enter(store, name, args)

    def _enter(self, store: Store, name: str, args: tuple[Any, ...]) -> Any:
        alone = store.alone
        function = store.closure_here(name)
        if alone and not store.alone:
            self._fast = {}  # what was bound for the main thread may not run there any more
        if function is None:
            store.plan.entry(name)
            return self._supervised(lambda: store.closure(name)(*args))
        if not self._observed and not store.entered_here():
            self._fast[name] = function
        return function(*args)

    def _supervised(self, function: Callable[[], Any]) -> Any:
        self._bus.refuse_subscribers()
        return supervise(function, self._door, self._cancel_now, self._leave)

    def _cancel_now(self) -> None:
        store = self._store
        if store is not None:
            store.cancel()
        else:
            self._door.cancel()

    def _leave(self, job: Job) -> None:
        """The call's thread does not return: store and grants are left to it, and freed when it does at last."""
        self._fast = {}
        store, grants, door = self._store, self._grants, self._door
        if store is not None:
            store.abandon()
        if grants is not None:
            self._meter.keep_output(grants)
        self._store = self._grants = None
        self._lost, self._state = door, "abandoned"
        job.afterwards(lambda _: release(store, grants, door))

    def _failed(self, name: str, args: tuple[Any, ...], error: BaseException) -> None:
        """Say the signature with arguments that do not fit; otherwise the instance has ended.

        After anything but a return it is in an unknown state.
        """
        # A host function may have raised what is otherwise said before the guest is entered.
        spent = getattr(self._store, "spent", False)
        if isinstance(error, TypeError) and not spent:
            if isinstance(error, ExportNotFound) or self._state != "ready":
                return
            shown, wanted = self._signature(name)
            from aegis.sandbox.exports import arguments_error  # only failures and components need that module

            raise arguments_error(shown, wanted, args, error) from None
        # A RecursionError is the caller's: there was no room to enter the guest at all.
        entered = spent or not isinstance(error, (SandboxStateError, RecursionError, Err))
        if entered and self._state == "ready":
            self._state = "poisoned"
            self._end = type(error)
            self._fast = {}

    def _signature(self, name: Any) -> tuple[str, int]:
        """Return an export's signature for messages, and how many arguments it takes."""
        if self._guest is not None:
            return self._guest.signature(name)
        signature = self._loaded().signature(name)
        return f"{printable(name)}{signature}", len(signature.params)

    # -- components ----------------------------------------------------------------------------

    @property
    def exports(self) -> Exports:
        """What the guest offers, by name: functions, and a component's interfaces with their resources."""
        return self._component().exports()

    def bind(self, interface: Interface) -> Any:
        """Return the exported ``interface`` as an object whose values are of the classes of its bindings.

        ``interface`` is the table of generated bindings; one without a name is the world's own functions.
        Raise :class:`~aegis.errors.LinkError` when the guest's types are not the table's.
        """
        return self._component().bind(interface)

    def _component(self) -> ComponentGuest:
        self._live()
        if self._guest is None:
            raise SandboxStateError(
                "the sandbox holds a core module; exports with types are a component's", state="ready"
            )
        return self._guest

    def _drop_handle(self, handle: ResourceHandle) -> None:
        """Drop a handle of this guest's resource; when the guest is gone, so is what the handle meant."""
        store: Any = self._store
        if self._state != "ready" or store is None or handle._owner is not store.handles:
            handle._native = None
            return
        drop = store.dropper()
        try:
            if drop is not None:
                drop(handle)
            else:
                self._supervised(lambda: store.dropper()(handle))
        except BaseException as error:
            self._failed("drop", (), error)
            raise

    # -- state ---------------------------------------------------------------------------------

    def _loaded(self) -> Any:
        if self._module is None:
            raise SandboxStateError(_NO_STORE, state="empty")
        return self._module

    def _live(self) -> Store:
        store = self._store
        if self._state == "ready" and store is not None:
            return store
        end = self._end
        if self._state == "poisoned" and end is not None and issubclass(end, WorkerCrashed):
            self.reset()  # nothing of the guest is left that a fresh one could be mistaken for
            return self._live()
        if self._state == "poisoned" and end is not None:
            how = "has exited" if issubclass(end, GuestExit) else f"ended with {end.__name__}"
            raise SandboxStateError(
                f"the sandbox is poisoned: its guest {how}; reset() starts a fresh one", state="poisoned"
            )
        reason = _REASONS.get(self._state, _NO_STORE)
        raise SandboxStateError(reason, state=self._state)

    def _on_guest_stack(self) -> bool:
        store = self._store
        return store is not None and store.entered_here()

    @contextmanager
    def _held(self) -> Iterator[Store]:
        """Hold the store between calls, so that nobody closes it meanwhile; a poisoned one may still be read."""
        store = self._store
        if store is None or self._state not in ("ready", "poisoned"):
            store = self._live()
        with store.held():
            yield store

    @contextmanager
    def _exclusive(self) -> Iterator[LinearMemory]:
        """Hold the store and give access to its memory."""
        with self._held() as store:
            yield store.bare_memory()

    @property
    def module(self) -> Module | Component | None:
        """The module or component that this sandbox runs."""
        return self._module

    @property
    def state(self) -> str:
        """``empty``, ``ready``, ``poisoned``, ``resetting``, ``abandoned`` or ``closed``."""
        return self._state

    @property
    def memory(self) -> Memory:
        """The guest's memory, by copies."""
        return Memory(self)

    @property
    def globals(self) -> Globals:
        """The guest's exported globals."""
        return Globals(self)

    @property
    def usage(self) -> Usage:
        """What was used since the sandbox was made or reset; fuel and seconds of the latest call."""
        return self._meter.total()

    def tally(self) -> tuple[int | None, int, int]:
        """Return the latest call's fuel, the host calls and the memory so far, as in ``usage`` and much cheaper."""
        return self._meter.tally()

    @property
    def stdout(self) -> bytes:
        """What the guest wrote to a captured stdout."""
        return self._meter.output(1)

    @property
    def stderr(self) -> bytes:
        """What the guest wrote to a captured stderr."""
        return self._meter.output(2)

    @property
    def undelivered(self) -> tuple[str, OSError] | None:
        """The inherited stream that could not take the guest's output, and why; ``None`` when it could."""
        return self._meter.undelivered if self._grants is None else self._grants.stdio.failure()

    @property
    def layers(self) -> tuple[tuple[str, bool, str], ...]:
        """Of an isolated sandbox, the layers that confine its worker: name, whether it is there, what or why not."""
        return tuple(getattr(self._store, "layers", self._layers))

    @property
    def events(self) -> EventBus:
        """The run's bus; ``events.failures`` holds subscribers that raised and were dropped."""
        return self._bus

    def __repr__(self) -> str:
        return f"<aegis sandbox {self._state} of {self._module!r}>"


@cache
def _guest_class() -> type[ComponentGuest]:
    from aegis.sandbox.component import ComponentGuest  # costs start-up time that only components need

    return ComponentGuest


def _changed(verb: str) -> SandboxStateError:
    return SandboxStateError(f"the sandbox is busy: another thread changes it; {verb} after that", state="busy")
