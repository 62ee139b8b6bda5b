"""One run of one guest: its artifact, grants, budgets and end. :class:`aegis.Sandbox` is its public face.

Life cycle: ``empty`` → ``ready`` → ``poisoned`` (anything but a return), and from each to ``closed``; ``resetting``
while :meth:`Run.reset` makes a new store; ``abandoned`` when a host function does not return and its thread keeps the
store and the grants. A store's token says which thread is in the guest; ``_life`` keeps two threads from changing the
run at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Lock as allocate_lock
from types import MappingProxyType
from weakref import ref

from aegis import host
from aegis.engine import Module
from aegis.engine.call.caller import Elsewhere
from aegis.engine.call.door import Door
from aegis.engine.store.memory import LinearMemory
from aegis.engine.threads.guest_thread import Job
from aegis.engine.threads.supervisor import supervise
from aegis.errors import CallError, ExportNotFound, GuestExit, SandboxStateError, WorkerCrashed
from aegis.observe.bus import SILENT, Subscriber
from aegis.sandbox.in_process import release
from aegis.sandbox.instantiate import as_before, component_of, instantiate, wasi_of
from aegis.sandbox.link_module import Faults, Functions, checked, collect, faulty, linked
from aegis.sandbox.meter import Meter
from aegis.support.lean import TYPE_CHECKING, Any
from aegis.text import printable
from aegis.values import Decision
from aegis.wit.err import Err

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component
    from aegis.host.preview2 import Wasi
    from aegis.host.stdio import Stdio
    from aegis.policy import StdioCapability
    from aegis.sandbox.backend import Backend, Store
    from aegis.sandbox.component import Prepared, SandboxComponent
    from aegis.wit.values import ResourceHandle

__all__ = ["Run"]

_NO_STORE = "the sandbox holds no module yet; load one first"
_REASONS = {
    "closed": "the sandbox is closed",
    "resetting": "the sandbox is being reset by another thread",
    "abandoned": "the sandbox is abandoned: a host function in it does not return",
}


class Run:
    """The state that the parts of one sandbox share, and its life cycle."""

    def __init__(
        self, backend: Backend, artifact: Module | Component | None = None, *,
        imports: Mapping[str, Any] | None = None, args: Sequence[str] = (), subscribers: Sequence[Subscriber] = (),
        stdio: StdioCapability | None = None, measured: bool = False,
        denied: Callable[[Decision], None] | None = None, trap_missing: bool = False, faults: Faults | None = None,
    ) -> None:  # fmt: skip
        self.backend = backend
        self.door = backend.door()
        self.fast: dict[str, Callable[..., Any]] = {}
        """Closures of exports that this thread may call as they are; emptied when they may not be called any more."""
        self._life = allocate_lock()
        if imports:
            self.imports = imports
        if trap_missing:
            self.trap_missing = True
        if args:
            self.args = tuple(args)
        if stdio is not None:
            self.stdio = stdio
        if subscribers or backend.subscribers:
            self.bus = backend.bus(subscribers)
        if denied is not None:
            self.denied = denied
        if faults is not None:
            self.faults = faults
        self.observed = measured or self.bus.active or faults is not None
        if artifact is not None:
            self.artifact = artifact
            if artifact.plain and not self.observed and not imports:
                # Nothing to link, nothing to run, no subscriber: what remains of load().
                self.store = backend.plain_store(self, artifact)  # type: ignore[arg-type]
                self.state = "ready"
            elif artifact.kind != "component" or self.observed or imports or not as_before(self, artifact):
                if self.bus.active:
                    self.meter.loaded(artifact)
                with self._life:
                    self._start()

    # Class attributes are the state of a new run: making one stores only what differs.
    args: tuple[str, ...] = ()
    stdio: StdioCapability | None = None
    bus = SILENT
    denied: Callable[[Decision], None] | None = None
    faults: Faults | None = None
    imports: Mapping[str, Any] = MappingProxyType({})
    functions: Functions | None = None
    trap_missing = False
    artifact: Module | Component | None = None
    component_made: SandboxComponent | None = None
    prepared: Prepared | None = None
    wasi_made: Wasi | None = None
    store: Store | None = None
    grants: host.Grants | None = None
    memory: LinearMemory | None = None
    """Access of host functions to the memory of a core module that has imports."""
    kept_stdio: Stdio | None = None
    """The standard streams of a guest that has ended, for the meter."""
    state = "empty"
    layers: tuple[tuple[str, bool, str], ...] = ()
    """Of an isolated guest that has ended, the layers that confined its worker."""
    _meter_made: Meter | None = None
    _end: type[BaseException] | None = None  # not the error: its traceback would keep the guest's data in a cycle
    _lost: Door | None = None

    @property
    def meter(self) -> Meter:
        """The counters of this run, made when they are first read."""
        meter = self._meter_made
        if meter is None:
            meter = self._meter_made = Meter(self)
        return meter

    @property
    def component(self) -> SandboxComponent | None:
        """The component's side of this run; ``None`` for a core module."""
        return self.component_made or component_of(self)

    # -- life ----------------------------------------------------------------------------------

    def load(self, artifact: Module | Component) -> None:
        """Instantiate ``artifact``; see :meth:`aegis.Sandbox.load`."""
        if getattr(artifact, "kind", None) not in ("module", "component"):
            raise CallError(
                f"load takes an artifact, not {type(artifact).__name__}; write load(runtime.load_file(path))"
            )
        if not self._life.acquire(False):
            raise _changed("load it")
        try:
            if self.state != "empty":
                raise SandboxStateError(f"the sandbox is {self.state}; a sandbox runs one module", state=self.state)
            self.artifact = artifact
            if self.bus.active:
                self.meter.loaded(artifact)
            self._start()
        finally:
            self._life.release()

    def register(self, module: str, name: str, function: Callable[..., Any]) -> None:
        """Offer ``function`` as the import ``module.name``, before :meth:`load`."""
        if self.state != "empty":
            raise SandboxStateError(f"the sandbox is {self.state}; register functions before load()", state=self.state)
        if self.functions is None:
            self.functions = {}
        self.functions[module, name] = checked(module, name, function)

    def reset(self) -> None:
        """Make a new store with new grants and full budgets. Nothing of the old one stays."""
        if not self._life.acquire(False):
            raise _changed("reset it")
        try:
            if self.state == "empty":
                raise SandboxStateError(_NO_STORE, state="empty")
            self._retire("reset")
            self.state = "resetting"
            self._release()
            self.door = self.backend.door()
            self.memory = self._meter_made = self.component_made = self.kept_stdio = None
            self._end = None
            self._start()
        finally:
            self._life.release()

    def close(self) -> None:
        """Free the store and the grants; a second close does nothing."""
        if not self._life.acquire(False):
            raise _changed("close it")
        try:
            if self.state != "closed":
                self._retire("close")
                self.state = "closed"
                self._release()
                self.component_made = None  # it refers to the run
        finally:
            self._life.release()

    def _start(self) -> None:
        """Open the store; one that does not open leaves the run poisoned, to be reset."""
        try:
            self._open()
        except BaseException as error:
            self._release()
            self.state = "poisoned"
            self._end = type(error)
            raise

    def _open(self) -> None:
        artifact = self.loaded()
        functions: Any = ()
        if artifact.kind == "component":
            self.prepared = None
            component = self.component
            assert component is not None
            functions = component.functions(partial(wasi_of, ref(self)))
        elif artifact.info.imports:
            self.memory = self.backend.memory(self.door)
            functions = linked(self, artifact, self.memory)
        elif self.imports:
            collect(self.imports)
        if self.faults is not None:
            self.door.faults = self.faults
            if artifact.kind == "module":
                functions = faulty(functions, self.faults)
        if self.observed or self.denied is not None:
            self.meter.watch(self.door, self.denied)
        self.store = instantiate(self, functions)
        self.state = "ready"

    def acquired(self) -> host.Grants:
        """Return the grants of this run, acquired at first use."""
        if self.grants is None:
            self.grants = self.backend.acquire(self)
        return self.grants

    def _release(self) -> None:
        self.fast.clear()
        if self.door is self._lost:
            self.door = self.backend.door()
        store, self.store = self.store, None
        if store is not None:
            if self._meter_made is not None:
                self._meter_made.keep(store)
            self.layers = store.layers
            store.close()
        grants, self.grants = self.grants, None
        if grants is not None:
            self.wasi_made = None
            if self._meter_made is not None:
                self._meter_made.keep_output(grants)
            else:  # the output was not read yet
                self.kept_stdio = grants.acquired_stdio
        release(None, grants, self.door)

    def _retire(self, verb: str) -> None:
        """Make sure that no thread is in the guest, and that none enters it any more."""
        if self.store is not None and not self.store.take_token():
            raise SandboxStateError(f"the sandbox is busy: {verb} it after the call under way", state="busy")

    # -- calls ---------------------------------------------------------------------------------

    def call(self, name: Any, *args: Any) -> Any:
        """Call the export ``name``; see :meth:`aegis.Sandbox.call`."""
        try:
            return self.fast[name](*args)
        except (KeyError, Elsewhere):
            pass
        except BaseException as error:
            self.failed(name, args, error)
            raise
        return self.call_unprepared(name, args)

    def call_unprepared(self, name: Any, args: tuple[Any, ...]) -> Any:
        """Make a first call, an observed one, or one from a thread that may not run the prepared closure."""
        try:
            return self._call(name, args)
        except Elsewhere:
            raise SandboxStateError("the sandbox is busy: another thread replaced its guest", state="busy") from None
        except BaseException as error:
            self.failed(name, args, error)
            raise

    def cancel(self) -> None:
        """End the call under way, from any thread; without one, do nothing."""
        store = self.store
        if store is not None and store.in_call():
            store.cancel()

    def _call(self, name: Any, args: tuple[Any, ...]) -> Any:
        store = self.live()
        if not self.observed:
            return self._enter(store, name, args)
        self.bus.refuse_subscribers()
        store.plan.entry(name)
        if store.entered_here():
            return self._enter(store, name, args)
        with self.meter.observing(name, args):
            return self._enter(store, name, args)

    def _enter(self, store: Store, name: Any, args: tuple[Any, ...]) -> Any:
        alone = store.alone
        function = store.closure_here(name)
        if alone and not store.alone:
            self.fast.clear()  # closures bound for the main thread may not run there any more
        if function is None:
            store.plan.entry(name)
            return self.supervised(lambda: store.closure(name)(*args))
        if not self.observed and not store.entered_here():
            self.fast[name] = function
        return function(*args)

    def supervised(self, function: Callable[[], Any]) -> Any:
        """Run ``function`` on a guest thread, so that Ctrl-C and the deadline reach it whatever it does."""
        self.bus.refuse_subscribers()
        return supervise(function, self.door, self.cancel_now, self.leave)

    def cancel_now(self) -> None:
        """Cancel the call that begins or is under way."""
        store = self.store
        if store is not None:
            store.cancel()
        else:
            self.door.cancel()

    def leave(self, job: Job) -> None:
        """Leave store and grants to a call's thread that does not return; they are freed when it does at last."""
        self.fast.clear()
        store, grants, door = self.store, self.grants, self.door
        if store is not None:
            store.abandon()
        if grants is not None:
            self.meter.keep_output(grants)
        self.store = self.grants = self.wasi_made = None
        self._lost, self.state = door, "abandoned"
        job.afterwards(lambda _: release(store, grants, door))

    def failed(self, name: Any, args: tuple[Any, ...], error: BaseException) -> None:
        """Raise ``CallError`` with the signature for arguments that do not fit; otherwise poison the run.

        After anything but a return the instance is in an unknown state.
        """
        # A host function may have raised an error that otherwise means that the guest was not entered.
        spent = getattr(self.store, "spent", False)
        if isinstance(error, TypeError) and not spent:
            if isinstance(error, ExportNotFound) or self.state != "ready":
                return
            shown, wanted = self.signature(name)
            from aegis.sandbox.exports import arguments_error  # only failures and components need that module

            raise arguments_error(shown, wanted, args, error) from None
        # A RecursionError is the caller's: there was no room to enter the guest at all.
        entered = spent or not isinstance(error, (SandboxStateError, RecursionError, Err))
        if entered and self.state == "ready":
            self.state = "poisoned"
            self._end = type(error)
            self.fast.clear()

    def signature(self, name: Any) -> tuple[str, int]:
        """Return an export's signature for messages, and how many arguments it takes."""
        if self.component is not None:
            return self.component.signature(name)
        signature = self.loaded().signature(name)
        return f"{printable(name)}{signature}", len(signature.params)

    def drop_handle(self, handle: ResourceHandle) -> None:
        """Drop a handle of this guest's resource; a handle of a guest that is gone means nothing any more."""
        store: Any = self.store
        if self.state != "ready" or store is None or handle._owner is not store.handles:
            handle._native = None
            return
        drop = store.dropper()
        try:
            if drop is not None:
                drop(handle)
            else:
                self.supervised(lambda: store.dropper()(handle))
        except BaseException as error:
            self.failed("drop", (), error)
            raise

    # -- state ---------------------------------------------------------------------------------

    def loaded(self) -> Any:
        """Return the artifact; raise ``SandboxStateError`` for a run without one."""
        if self.artifact is None:
            raise SandboxStateError(_NO_STORE, state="empty")
        return self.artifact

    def live(self) -> Store:
        """Return the store of a run that is ready; raise ``SandboxStateError`` otherwise.

        A run whose worker process died is reset first: nothing of the guest is left that a fresh one could be
        mistaken for.
        """
        store = self.store
        if self.state == "ready" and store is not None:
            return store
        end = self._end
        if self.state == "poisoned" and end is not None and issubclass(end, WorkerCrashed):
            self.reset()
            return self.live()
        if self.state == "poisoned" and end is not None:
            how = "has exited" if issubclass(end, GuestExit) else f"ended with {end.__name__}"
            raise SandboxStateError(
                f"the sandbox is poisoned: its guest {how}; reset() starts a fresh one", state="poisoned"
            )
        raise SandboxStateError(_REASONS.get(self.state, _NO_STORE), state=self.state)

    def on_guest_stack(self) -> bool:
        """Tell whether this thread is in a host function that the guest called."""
        store = self.store
        return store is not None and store.entered_here()

    @contextmanager
    def held(self) -> Iterator[Store]:
        """Hold the store between calls, so that no thread closes it meanwhile; a poisoned one may still be read."""
        store = self.store
        if store is None or self.state not in ("ready", "poisoned"):
            store = self.live()
        with store.held():
            yield store

    @contextmanager
    def exclusive(self) -> Iterator[LinearMemory]:
        """Hold the store and give access to its memory."""
        with self.held() as store:
            yield store.bare_memory()


def _changed(verb: str) -> SandboxStateError:
    return SandboxStateError(f"the sandbox is busy: another thread changes it; {verb} after that", state="busy")
