"""The seam to the place where guests run: this process (:mod:`.in_process`), or a worker (:mod:`aegis.isolation`).

A :class:`Backend` belongs to a runtime and has its policy. For each :class:`Run` it acquires the grants, makes a
:class:`Plan` of the artifact and creates a :class:`Store` from it. A store is one instance of the guest: the run calls
its exports through closures, on the thread that has its token. The other modules of this package use only these
protocols, so they behave the same for both backends. :class:`aegis.sandbox.run.GuestRun` implements :class:`Run`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import _socket

    from aegis import host
    from aegis.component.planning.artifact import Component
    from aegis.component.planning.world import ImportedFunction
    from aegis.engine.call.door import Door
    from aegis.engine.compile.artifact import Module
    from aegis.engine.compile.code import Artifact
    from aegis.engine.store.memory import LinearMemory
    from aegis.engine.threads.guest_thread import Job
    from aegis.engine.threads.queue import GuestThreadPool
    from aegis.host.net.http.served_frames import ServedHead
    from aegis.host.stdio import Stdio
    from aegis.host.wasi import Wasi
    from aegis.limits import Limits
    from aegis.observe.bus import EventBus, Subscriber
    from aegis.policy import Policy, StdioCapability
    from aegis.sandbox.guest_turns import GuestTurns
    from aegis.sandbox.link_component import Providers
    from aegis.values import AnswerStep, Decision, GuestMemory, HostFunction
    from aegis.wasm.binary import GlobalType
    from aegis.wit.types import Interface
    from aegis.wit.values import ResourceHandle

__all__ = ["Backend", "Functions", "Plan", "PlanOfComponent", "Run", "State", "Store"]

State = Literal["empty", "ready", "poisoned", "resetting", "abandoned", "closed"]
"""The state of a sandbox."""
Functions = Sequence["HostFunction"] | Sequence[Callable[..., Any]] | Mapping[int, Callable[..., Any]]
"""The functions that serve an artifact's imports: one for each, in the order of the imports, or by number."""


class Plan(Protocol):
    """The parts of an artifact's stores that do not depend on the sandbox, so that all its sandboxes share them."""

    calls_python: bool
    """Whether the engine calls Python code during instantiation, for example to account for memories."""

    @property
    def artifact(self) -> Module | Component: ...
    @property
    def limits(self) -> Limits: ...
    def entry(self, name: Any) -> Any:
        """Return the export ``name``; raise ``ExportNotFound``."""


class PlanOfComponent(Plan, Protocol):
    """The plan of a component's stores."""

    starts: bool
    """Whether instantiation may run guest code, or wait."""
    counted: bool
    """Whether the engine calls Python for each growth of a memory."""

    @property
    def functions(self) -> Sequence[ImportedFunction]:
        """The imported functions, in the order of their numbers."""

    def check(self, interface: str, function: str, table: Interface) -> None:
        """Raise ``LinkError`` unless an exported function has the type that the bindings declare."""


class Store(Protocol):
    """An instance of a guest, which one thread at a time may enter: the one that holds its token.

    Closures of exports take the token themselves. :meth:`bare_memory`, :meth:`memory_size`, :meth:`fuel_left`,
    :meth:`global_get`, :meth:`global_set` and :meth:`close` are for the thread that holds it. Any thread may call the
    other methods at any time; they raise ``SandboxStateError`` (busy) if they need the token and another thread has it.
    """

    token: list[None]
    """Empty while a thread holds the store; otherwise it has one element. ``list.pop`` takes it atomically."""
    calls_no_python: bool
    """Whether no guest code can call Python.

    Then the main thread may run it: Python runs signal handlers there, and one that raises at the entry of a native
    callback would end the process (F9)."""
    spent: bool
    """Whether a call entered the guest and did not return."""

    @property
    def closed(self) -> bool:
        """Whether the guest is gone: the store was closed, or its worker process died."""

    layers: tuple[tuple[str, bool, str], ...]
    """The layers that confine the guest's process: name, whether it is in force, details. Empty for this process."""

    @property
    def plan(self) -> Plan: ...
    def closure(self, name: Any) -> Callable[..., Any]:
        """Return the function that calls an export, for use on a guest thread; raise ``ExportNotFound``."""

    def closure_here(self, name: Any) -> Callable[..., Any] | None:
        """Return the function that calls an export on this thread; ``None`` if this thread may not run guest code."""

    def entered_here(self) -> bool:
        """Return whether this thread is in a host function that the guest called."""

    def in_call(self) -> bool:
        """Return whether a thread is in the guest."""

    def take_token(self) -> bool:
        """Take the token; return whether it was free."""

    def held(self) -> AbstractContextManager[Any]:
        """Return a context manager that holds the token; it raises ``SandboxStateError`` (busy) if it is taken."""

    def bare_memory(self) -> LinearMemory:
        """Return access to the exported memory that counts no bytes. Only the thread with the token may use it."""

    def added_memories(self) -> tuple[LinearMemory, ...]:
        """Return access to the memories that instrumentation added; none of an isolated guest."""

    def memory_size(self) -> int:
        """Return the size of all linear memories together, in bytes."""

    def fuel_left(self) -> int:
        """Return the fuel that the latest call left unused."""

    def tally_reader(self, run: Any, otherwise: Callable[[], Any]) -> Callable[[], Any]:
        """Return a function that reads fuel, host calls and memory of ``run``, or calls ``otherwise`` to do so."""

    def global_get(self, name: str, kind: GlobalType) -> int | float:
        """Return the value of an exported global, integers as signed."""

    def global_set(self, name: str, kind: GlobalType, value: int | float) -> None:
        """Set an exported global to a value of its type."""

    def cancel(self) -> None:
        """End the call under way; it raises ``Cancelled``."""

    def abandon(self) -> None:
        """Leave the store to the thread that does not return from it, so that nothing else frees it."""

    def close(self) -> None:
        """Free the native state; a second close does nothing. The caller has the token, or no other thread can call."""


class Run(Protocol):
    """One run of one guest, as its backend and the parts of a sandbox see it."""

    backend: Backend
    door: Door
    args: tuple[str, ...]
    stdio: StdioCapability | None
    bus: EventBus
    denied: Callable[[Decision], None] | None
    answer: AnswerStep | None
    imports: Mapping[str, Any]
    functions: dict[tuple[str, str], Callable[..., Any]] | None
    """Functions that the embedder registered for a core module, by module and name."""
    trap_missing: bool
    observed: bool
    """Whether calls have events or are measured."""
    artifact: Module | Component | None
    component_made: Any
    """The :class:`~aegis.sandbox.component.SandboxComponent`, after its first use."""
    prepared: Any
    """The :class:`~aegis.sandbox.component.Prepared` of the component."""
    wasi_made: Wasi | None
    store: Store | None
    turns: GuestTurns | None
    """Runs an asynchronous component outside of synchronous calls; ``None`` for other guests."""
    grants: host.Grants | None
    memory: GuestMemory | None
    """Access to the guest's memory for host functions, for a core module with imports."""
    kept_stdio: Stdio | None
    """The standard streams of the latest guest after it was freed, for the meter."""
    state: State

    @property
    def component(self) -> Any:
        """The component of this run; ``None`` for a core module."""

    def loaded(self) -> Any:
        """Return the artifact; raise ``SandboxStateError`` if the run is empty."""

    def live(self) -> Store:
        """Return the store of a ready run; raise ``SandboxStateError`` in other states."""

    def acquired(self) -> host.Grants:
        """Return the grants, acquired when the guest first needs them."""

    def on_guest_stack(self) -> bool:
        """Return whether this thread is in a host function that the guest called."""

    def held(self) -> AbstractContextManager[Store]:
        """Return a context manager that holds the token of the store."""

    def exclusive(self) -> AbstractContextManager[LinearMemory]:
        """Return a context manager that holds the token, and yields access to the guest's memory."""

    def call(self, name: Any, *args: Any) -> Any:
        """Call the export ``name``."""

    def signature(self, name: Any) -> tuple[str, int]:
        """Return the signature of an export for messages, and the number of its parameters."""

    def supervised(self, function: Callable[[], Any]) -> Any:
        """Run ``function`` on a guest thread while this one waits."""

    def cancel_now(self) -> None:
        """Cancel the call that starts or is under way."""

    def leave(self, job: Job) -> None:
        """Leave the store and the grants to a thread that does not return."""


class Backend(Protocol):
    """The backend of one runtime: it creates the stores of its sandboxes."""

    policy: Policy
    subscribers: tuple[Subscriber, ...]
    turns: GuestThreadPool | None
    """The pool that bounds the asynchronous calls of this runtime; ``None``: the one that all others share."""

    def door(self) -> Door:
        """Return the call context of a new run, with full limits and without a deadline yet."""

    def bus(self, subscribers: Sequence[Subscriber]) -> EventBus:
        """Return the event bus of a new run, for the subscribers of the runtime and the given ones."""

    def prepare(self, artifact: Artifact, what: str) -> None:
        """Compile ``artifact`` for this backend, named ``what`` in errors.

        Raise ``ArtifactError`` if the engine rejects it.
        """

    def close(self) -> None:
        """Release the resources that the backend keeps between sandboxes."""

    def acquire(self, run: Run) -> host.Grants:
        """Return the grants of a run; raise ``PolicyError`` for one that cannot be acquired."""

    def providers(self, component: Component, imports: Mapping[str, Any], *, trap_missing: bool) -> Providers:
        """Return the providers of a component's imports; raise ``LinkError`` for imports without a provider."""

    def plan(self, module: Module, *, watched: bool = False, pooled: bool = True) -> Plan:
        """Return the plan of a module's stores; ``watched``: measure its memory; ``pooled``: take slots of the pool."""

    def component_plan(
        self, component: Component, providers: Providers, *, watched: bool = False, pooled: bool = True
    ) -> PlanOfComponent:
        """Return the plan of a component's stores under these providers."""

    def memory(self, door: Door) -> GuestMemory:
        """Return access to a module's memory for host functions, which counts the copied bytes at ``door``."""

    def served(self, run: Run, module: Module, memory: Any) -> Mapping[int, Callable[..., Any]] | None:
        """Return the functions of a module that imports nothing but WASI, by number; ``None`` for other modules."""

    def offered(self, run: Run, module: Module, memory: Any) -> Sequence[HostFunction]:
        """Return the functions that Aegis itself provides for a module's imports."""

    def plain_store(self, run: Run, module: Module) -> Store:
        """Instantiate a module without imports and start function, in a run without observers."""

    def module_store(self, run: Run, plan: Any, functions: Any) -> Store:
        """Instantiate a module; raise ``PoolExhausted`` when the pool has no slot."""

    def component_store(
        self, run: Run, plan: Any, functions: Any, *, classes: Callable[[int], Callable[..., ResourceHandle]]
    ) -> Store:
        """Instantiate a component; ``classes`` returns the class of handles of a resource by its key.

        Raise ``PoolExhausted`` when the pool has no slot.
        """

    def serve(self, run: Run, store: Any, handler: Any, head: ServedHead, connection: _socket.socket) -> bytes:
        """Have the guest serve one request, on a guest thread; see :func:`aegis.sandbox.serving.serve`."""
