"""The state and the life cycle of a sandbox. :class:`aegis.Sandbox` is its public interface.

Life cycle: ``empty`` → ``ready`` (``load``) → ``poisoned`` when a call does not return. ``reset`` leads from any state
but ``empty`` through ``resetting`` to ``ready``, ``close`` from any state to ``closed``. A run is ``abandoned`` when a
host function does not return: its thread keeps the store and the grants, and frees them if it ever returns; ``reset``
starts anew without them.

Two locks: the token of a store belongs to the thread that is in the guest or reads its memory; ``_life`` belongs to the
thread that changes the state of the run. Neither waits: a second thread gets ``SandboxStateError``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Lock as allocate_lock
from time import monotonic
from types import MappingProxyType
from weakref import ref

from aegis import host
from aegis.engine import Module
from aegis.engine.call.caller import Elsewhere
from aegis.engine.call.door import Door
from aegis.engine.store.memory import LinearMemory
from aegis.engine.threads.guest_thread import Job
from aegis.engine.threads.supervisor import supervise
from aegis.errors import CallError, ExportNotFound, GuestError, GuestExit, PolicyError, SandboxStateError, WorkerCrashed
from aegis.observe.bus import SILENT, Subscriber
from aegis.sandbox.instantiate import component_of, instantiate, instantiate_again, wasi_of
from aegis.sandbox.link_module import Functions, checked, collect, linked
from aegis.sandbox.meter import Meter
from aegis.support.lean import TYPE_CHECKING, Any
from aegis.text import last_lines, printable
from aegis.values import AnswerStep, Decision, GuestMemory
from aegis.wit.err import Err

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component
    from aegis.host.stdio import Stdio
    from aegis.host.wasi import Wasi
    from aegis.policy import StdioCapability
    from aegis.sandbox.backend import Backend, State, Store
    from aegis.sandbox.component import Prepared, SandboxComponent
    from aegis.sandbox.guest_turns import GuestTurns
    from aegis.wit.values import ResourceHandle

__all__ = ["GuestRun"]

_NO_STORE = "the sandbox is empty: load a module first"
_REASONS = {
    "closed": "the sandbox is closed",
    "resetting": "the sandbox is being reset by another thread",
    "abandoned": "the sandbox is abandoned, because a host function does not return: reset() starts a new guest",
}


def _texts(args: Sequence[str]) -> tuple[str, ...]:
    """Return the program's arguments; a single text would otherwise be an argument for each of its letters."""
    if isinstance(args, (str, Mapping)):
        raise PolicyError(f'args is a list of texts, not {type(args).__name__}: write args=["NAME", "ARGUMENT"]')
    return tuple(args)


def _not_loaded(function: str, given: object) -> CallError:
    kind = type(given).__name__
    return CallError(f"{function} takes a module or component, not {kind}: write {function}(runtime.load_file(path))")


class GuestRun:
    """One run of one guest: its artifact, store, grants, counters and life cycle."""

    def __init__(
        self, backend: Backend, artifact: Module | Component | None = None, *,
        imports: Mapping[str, Any] | None = None, args: Sequence[str] = (), subscribers: Sequence[Subscriber] = (),
        stdio: StdioCapability | None = None, measured: bool = False,
        denied: Callable[[Decision], None] | None = None, trap_missing: bool = False, answer: AnswerStep | None = None,
    ) -> None:  # fmt: skip
        self.backend = backend
        self.door = backend.door()
        self.fast: dict[str, Callable[..., Any]] = {}
        """Prepared closures by export, which calls use directly. It is cleared when calls must check the state again.

        :class:`aegis.Sandbox` has the same dictionary, so it is cleared and never replaced."""
        self._life = allocate_lock()
        if imports:
            self.imports = imports
        if trap_missing:
            self.trap_missing = True
        if args:
            self.args = _texts(args)
        if stdio is not None:
            self.stdio = stdio
        if subscribers or backend.subscribers:
            self.bus = backend.bus(subscribers)
        if denied is not None:
            self.denied = denied
        if answer is not None:
            self.answer = answer
        self.observed = measured or self.bus.active or answer is not None
        if artifact is not None:
            self.artifact = artifact
            try:
                plain = artifact.plain
            except AttributeError:
                raise _not_loaded("sandbox", artifact) from None
            if plain and not self.observed and not imports:
                # No imports, no start function, no observer: creating the store is all that load() would do.
                self.store = backend.plain_store(self, artifact)  # type: ignore[arg-type]
                self.state = "ready"
            elif artifact.kind != "component" or self.observed or imports or not instantiate_again(self, artifact):
                if self.bus.active:
                    self.meter.loaded(artifact)
                with self._life:
                    self._start()

    # Class attributes are the defaults of a new run: its creation stores only the values that differ.
    args: tuple[str, ...] = ()
    stdio: StdioCapability | None = None
    bus = SILENT
    denied: Callable[[Decision], None] | None = None
    answer: AnswerStep | None = None
    imports: Mapping[str, Any] = MappingProxyType({})
    functions: Functions | None = None
    trap_missing = False
    artifact: Module | Component | None = None
    component_made: SandboxComponent | None = None
    prepared: Prepared | None = None
    wasi_made: Wasi | None = None
    store: Store | None = None
    turns: GuestTurns | None = None
    """Runs an asynchronous component outside of synchronous calls; ``None`` for other guests."""
    grants: host.Grants | None = None
    memory: GuestMemory | None = None
    """Access to the guest's memory for host functions, for a core module with imports."""
    kept_stdio: Stdio | None = None
    """The standard streams of the latest guest after it was freed, for the meter."""
    state: State = "empty"
    layers: tuple[tuple[str, bool, str], ...] = ()
    """The layers that confined the worker of the latest isolated guest after it was freed."""
    _meter_made: Meter | None = None
    _end: type[BaseException] | None = None
    """The class of the error that poisoned the run. The error itself would keep the guest's data by its traceback."""
    _began = False
    """Whether the guest has been called, so that ``_initialize`` of a reactor is no longer due."""
    fuel_before: int | None = None
    """Fuel that ``_initialize`` used before the latest call of :meth:`aegis.Sandbox.run`."""
    _abandoned_door: Door | None = None
    """The door of a call whose thread did not return. That thread still uses it, so a new guest needs another."""

    @property
    def meter(self) -> Meter:
        """The counters of this run, created when they are first read."""
        meter = self._meter_made
        if meter is None:
            meter = self._meter_made = Meter(self)
        return meter

    @property
    def component(self) -> SandboxComponent | None:
        """The component of this run; ``None`` for a core module."""
        return self.component_made or component_of(self)

    # -- life ----------------------------------------------------------------------------------

    def load(self, artifact: Module | Component) -> None:
        """Instantiate ``artifact``; see :meth:`aegis.Sandbox.load`."""
        if getattr(artifact, "kind", None) not in ("module", "component"):
            raise _not_loaded("load", artifact)
        if not self._life.acquire(False):
            raise _busy("load it")
        try:
            if self.state != "empty":
                raise SandboxStateError(f"the sandbox is {self.state}: create another one", state=self.state)
            self.artifact = artifact
            if self.bus.active:
                self.meter.loaded(artifact)
            self._start()
        finally:
            self._life.release()

    def register(self, module: str, name: str, function: Callable[..., Any]) -> None:
        """Provide ``function`` for the import ``module.name``, before :meth:`load`."""
        if self.state != "empty":
            raise SandboxStateError(f"the sandbox is {self.state}: register functions before load()", state=self.state)
        if self.functions is None:
            self.functions = {}
        self.functions[module, name] = checked(module, name, function)

    def reset(self) -> None:
        """Replace the guest by a new instance, with new grants and full limits."""
        if not self._life.acquire(False):
            raise _busy("reset it")
        try:
            if self.state == "empty":
                raise SandboxStateError(_NO_STORE, state="empty")
            self._retire("reset")
            self.state = "resetting"
            self._release()
            self.door = self.backend.door()
            self.memory = self._meter_made = self.component_made = self.kept_stdio = None
            self._end = None
            self._began = False
            self._start()
        finally:
            self._life.release()

    def close(self) -> None:
        """Free the store and the grants; a second close does nothing."""
        if not self._life.acquire(False):
            raise _busy("close it")
        try:
            if self.state != "closed":
                self._retire("close")
                self.state = "closed"
                self._release()
                self.component_made = None  # it refers to the run: break the cycle
        finally:
            self._life.release()

    def _start(self) -> None:
        """Link and instantiate the artifact. A failure frees the grants and poisons the run, which can be reset."""
        try:
            self._open()
        except BaseException as error:
            if isinstance(error, GuestError):
                self._note_output(error)
            self._release()
            self.state = "poisoned"
            self._end = type(error)
            raise

    def _open(self) -> None:
        """Link the imports, start observing and create the store."""
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
            collect(self.imports)  # report mistakes also for a module that imports nothing
        self.door.answer = self.answer
        if self.observed or self.denied is not None:
            self.meter.watch(self.door, self.denied)
        self.store = instantiate(self, functions)
        self.state = "ready"

    def acquired(self) -> host.Grants:
        """Return the grants of this run, acquired when the guest first needs them."""
        if self.grants is None:
            self.grants = self.backend.acquire(self)
        return self.grants

    def _release(self) -> None:
        """Free the store and the grants; keep the values that the meter and ``layers`` report afterwards."""
        self.fast.clear()
        if self.door is self._abandoned_door:
            self.door = self.backend.door()
        store, self.store, self.turns = self.store, None, None
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
            else:  # no meter has read the output yet: keep the streams for one that does later
                self.kept_stdio = grants.acquired_stdio
        _release(None, grants, self.door)

    def _retire(self, verb: str) -> None:
        """Take the token of the store, for good, so that no thread is in the guest or enters it.

        Raise ``SandboxStateError`` (busy) if a thread has it.
        """
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
        """Call an export without a prepared closure: a first call, an observed one, or one on another thread.

        An observed call has its events; a nested one belongs to the outer one.
        """
        try:
            store = self.live()
            if not self._began:
                self._begin(store, name)
            if not self.observed:
                return self._enter(store, name, args)
            self.bus.refuse_subscribers()
            store.plan.entry(name)
            if store.entered_here():
                return self._enter(store, name, args)
            with self.meter.observing(name, args):
                return self._enter(store, name, args)
        except Elsewhere:
            raise SandboxStateError("the sandbox is busy: another thread reset it", state="busy") from None
        except BaseException as error:
            self.failed(name, args, error)
            raise

    def _begin(self, store: Store, name: Any) -> None:
        """Before the first call of an export, call ``_initialize`` if the guest is a reactor (WASI application ABI).

        It is a call of its own, with the limits of a call. A first call of ``_initialize`` itself is not preceded.
        """
        artifact = self.loaded()
        if artifact.kind == "module" and artifact.reactor and str(name) != "_initialize":
            store.plan.entry(name)  # a name that is not exported raises before any guest code runs
            self._began = True
            try:
                self.call_unprepared("_initialize", ())
            except BaseException:
                self._began = self.state != "ready"  # the guest was not entered: it is still due
                raise
            if store.plan.limits.fuel is not None:
                self.fuel_before = store.plan.limits.fuel - store.fuel_left()
        self._began = True

    def cancel(self) -> None:
        """End the call under way, from any thread; without one, do nothing."""
        store = self.store
        if store is not None and store.in_call():
            store.cancel()

    def _enter(self, store: Store, name: Any, args: tuple[Any, ...]) -> Any:
        """Call an export on this thread or, where this thread may not run guest code, on a guest thread."""
        calls_no_python = store.calls_no_python
        function = store.closure_here(name)
        if calls_no_python and not store.calls_no_python:
            self.fast.clear()  # this closure can call Python: the main thread may not run the guest any more
        if function is None:
            store.plan.entry(name)
            return self.supervised(lambda: store.closure(name)(*args))
        if not self.observed and not store.entered_here():
            self.fast[name] = function
        return function(*args)

    def supervised(self, function: Callable[[], Any]) -> Any:
        """Run ``function`` on a guest thread while this one waits, so that Ctrl-C and the deadline take effect."""
        self.bus.refuse_subscribers()
        return supervise(function, self.door, self.cancel_now, self.leave)

    def cancel_now(self) -> None:
        """Cancel the call that starts or is under way, also during instantiation, when there is no store yet."""
        store = self.store
        if store is not None:
            store.cancel()
        else:
            self.door.cancel()

    def leave(self, job: Job) -> None:
        """Leave the store and the grants to a thread that does not return. They are freed if it ever does."""
        self.fast.clear()
        store, grants, door = self.store, self.grants, self.door
        if store is not None:
            store.abandon()
        if grants is not None:
            self.meter.keep_output(grants)
        self.store = self.grants = self.wasi_made = None
        self._abandoned_door, self.state = door, "abandoned"
        job.afterwards(lambda _: _release(store, grants, door))

    def failed(self, name: Any, args: tuple[Any, ...], error: BaseException) -> None:
        """Raise ``CallError`` for arguments that do not match the signature; otherwise poison the run.

        A guest that did not return may have stopped while it changed its memory, so it must not be called again.
        """
        # A TypeError or RecursionError before the entry is the caller's. A host function may raise the same ones.
        spent = getattr(self.store, "spent", False)
        if isinstance(error, TypeError) and not spent:
            if isinstance(error, ExportNotFound) or self.state != "ready":
                return
            shown, wanted = self.signature(name)
            from aegis.sandbox.exports import arguments_error  # imported late: core modules need it for errors alone

            raise arguments_error(shown, wanted, args, error) from None
        # These mean that the guest was not entered, or (Err) that it returned. RecursionError: no room to enter it.
        entered = spent or not isinstance(error, (SandboxStateError, RecursionError, Err))
        if entered and not self.on_guest_stack():
            self.door.returned_at = monotonic()
        if isinstance(error, GuestError):
            self._note_output(error)
        if entered and self.state == "ready":
            self.state = "poisoned"
            self._end = type(error)
            self.fast.clear()

    def _note_output(self, error: GuestError) -> None:
        """Add the guest's last lines on stderr to ``error``, which often state the cause (PEP 678)."""
        stdio = None if self.grants is None else self.grants.acquired_stdio
        written = b"" if stdio is None else stdio.stderr_bytes()
        if not written or (isinstance(error, GuestExit) and error.code == 0):
            return
        note = "\n".join(("the guest's last lines on stderr:", *(f"  | {line}" for line in last_lines(written))))
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)

    def signature(self, name: Any) -> tuple[str, int]:
        """Return the signature of an export for messages, and the number of its parameters."""
        if self.component is not None:
            return self.component.signature(name)
        signature = self.loaded().signature(name)
        return f"{printable(name)}{signature}", len(signature.params)

    def drop_handle(self, handle: ResourceHandle) -> None:
        """Drop a handle of a resource of this guest. For a guest that was replaced or freed, only forget the handle."""
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
        """Return the artifact; raise ``SandboxStateError`` if the run is empty."""
        if self.artifact is None:
            raise SandboxStateError(_NO_STORE, state="empty")
        return self.artifact

    def live(self) -> Store:
        """Return the store of a ready run; raise ``SandboxStateError`` in other states.

        A run whose worker process died is reset first. Nothing of that guest is left, so a caller cannot mistake the
        memory of the new guest for that of the old one.
        """
        store = self.store
        if self.state == "ready" and store is not None:
            return store
        end = self._end
        gone = store is None or store.closed  # the crash may be that of another sandbox, which a host function called
        if self.state == "poisoned" and gone and end is not None and issubclass(end, WorkerCrashed):
            self.reset()
            return self.live()
        if self.state == "poisoned" and end is not None:
            how = "has exited" if issubclass(end, GuestExit) else f"ended with {end.__name__}"
            raise SandboxStateError(
                f"the sandbox is poisoned, because its guest {how}: reset() starts a new guest", state="poisoned"
            )
        raise SandboxStateError(_REASONS.get(self.state, _NO_STORE), state=self.state)

    def on_guest_stack(self) -> bool:
        """Return whether this thread is in a host function that the guest called."""
        store = self.store
        return store is not None and store.entered_here()

    @contextmanager
    def held(self) -> Iterator[Store]:
        """Hold the token of the store, so that no thread calls or closes it meanwhile; a poisoned run has one too."""
        store = self.store
        if store is None or self.state not in ("ready", "poisoned"):
            store = self.live()
        with store.held():
            yield store

    @contextmanager
    def exclusive(self) -> Iterator[LinearMemory]:
        """Hold the token of the store, and yield access to its memory."""
        with self.held() as store:
            yield store.bare_memory()


def _busy(verb: str) -> SandboxStateError:
    return SandboxStateError(f"the sandbox is busy: another thread changes its state: {verb} afterwards", state="busy")


def _release(store: Store | None, grants: host.Grants | None, door: Door) -> None:
    """Free the resources of a run: native memory, host objects that its guest had handles of, descriptors.

    The order matters: no guest code may run any more when its handles are dropped, and dropping them may use grants.
    """
    if store is not None and store.take_token():
        store.close()
    try:
        if door.handles is not None:
            door.handles.close()
    finally:
        if grants is not None:
            grants.close()
        door.close()
