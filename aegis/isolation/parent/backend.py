"""The backend of guests that run in workers: it opens the grants and passes their descriptors to a worker."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from aegis.engine.compile.config import EngineConfig
from aegis.engine.store.missing import MissingFunction
from aegis.errors import PolicyError, SandboxStateError
from aegis.host import Grants, acquire, offers
from aegis.host.stdio import Stdio, acquire_stdio
from aegis.isolation.parent.code import Code, code_for
from aegis.isolation.parent.host_calls import HostFunctions, ModuleFunctions
from aegis.isolation.parent.memory import RemoteMemory
from aegis.isolation.parent.outlines import ModuleOutline, provided_by_worker
from aegis.isolation.parent.pool import Pool, Worker
from aegis.isolation.parent.services import Services
from aegis.isolation.parent.store import IsolatedStore
from aegis.isolation.parent.streams import Delivery
from aegis.isolation.protocol.channel import MAX_DESCRIPTORS
from aegis.isolation.protocol.packets import PACKET
from aegis.isolation.protocol.pickled import dumps
from aegis.isolation.protocol.specs import Folder, SandboxSpec, WorkerSpec, pack
from aegis.observe.bus import Subscriber
from aegis.policy import Policy
from aegis.policy.isolation import Isolation
from aegis.sandbox.base_backend import BaseBackend
from aegis.sandbox.host_function_adapters import on_threads
from aegis.sandbox.link_module import wants_host
from aegis.support.descriptors import standard_reserved
from aegis.support.lean import TYPE_CHECKING, Any, late, replace
from aegis.values import HostFunction

if TYPE_CHECKING:
    import _socket

    from aegis.component.planning.artifact import Component
    from aegis.engine.call.door import Door
    from aegis.engine.compile.artifact import Module
    from aegis.engine.compile.cache import Cache
    from aegis.engine.compile.code import Artifact
    from aegis.host.files.directory import OpenDescriptors
    from aegis.host.files.preopens import Preopen
    from aegis.host.files.protected import Protected
    from aegis.host.net.http.served_frames import ServedHead
    from aegis.isolation.parent import component_host_calls, component_modules, component_outlines, handles
    from aegis.isolation.parent.ends import EndTable
    from aegis.sandbox.backend import Run
    from aegis.sandbox.guest_turns import GuestTurns
    from aegis.sandbox.link_component import Providers
    from aegis.wit.values import ResourceHandle
else:  # needed only for components
    component_modules = late("aegis.isolation.parent.component_modules")
    component_outlines = late("aegis.isolation.parent.component_outlines")
    component_host_calls = late("aegis.isolation.parent.component_host_calls")
    handles = late("aegis.isolation.parent.handles")

__all__ = ["IsolatedBackend"]

_VALUE_FORMS = 4
"""How many times ``value_bytes`` a worker may need. While a value is converted, it exists as handles, as plain data and
as a message, up to 3.2 times its size as measured, in addition to the state of the host. ``host_bytes`` is not added,
because the data that a call copies is not held all at once."""


class IsolatedBackend(BaseBackend):
    """Runs guests in worker processes with the given ``options``; creates the pool's warm workers at once."""

    def __init__(
        self, policy: Policy, config: EngineConfig, options: Isolation, cache: Cache | None,
        subscribers: Sequence[Subscriber] = (), *, exact: bool = False, refusals: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(policy, subscribers)
        self.config, self.options, self._cache = config.for_workers(), options, cache
        if options.strict:
            from aegis.engine.native.advisories import reject_reachable_advisories

            reject_reachable_advisories(proposals=policy.proposals)
        self.exact, self.refusals = exact or bool(subscribers), refusals
        spec = WorkerSpec.of(policy, options.without)
        if len(dumps(spec)) > PACKET // 2:  # too large for a packet: send the policy with each sandbox instead
            spec = replace(spec, known=Policy())
        self.known = spec.known
        first = _forked()
        workers, recycle = (options.workers, options.recycle) if first is None else (0, 0)
        self.pool = Pool(config.stack, workers, recycle, spec, first)

    # -- artifacts and plans -------------------------------------------------------------------

    def engine_of(self, artifact: Artifact, *, watched: bool = False) -> EngineConfig:
        """Return the engine configuration for ``artifact``; ``watched``: an observer needs exact memory use."""
        watched = watched or self.exact
        counted = self.config.heap or artifact.counted(self.policy.limits, watched=watched, refusals=self.refusals)
        return self.config.with_count() if counted else self.config

    def prepare(self, artifact: Artifact, what: str) -> None:
        """Compile ``artifact``, named ``what`` in errors. Raise ``ArtifactError`` if the engine rejects it."""
        self.code(artifact, what)

    def code(self, artifact: Artifact, what: str, config: EngineConfig | None = None) -> Code:
        """Return an artifact's code for workers, compiled in a worker if necessary; set the world of a component."""
        code = code_for(artifact, config or self.engine_of(artifact), self.pool, self.options, self._cache, what)
        if artifact.kind == "component":
            artifact.reported_world = code.world  # type: ignore[attr-defined]
        return code

    def plan(self, module: Module, *, watched: bool = False, pooled: bool = True) -> Any:
        """Return the plan for calls into a module."""
        return ModuleOutline(module, self.policy.limits, self.engine_of(module, watched=watched))

    def providers(self, component: Component, imports: Mapping[str, Any], *, trap_missing: bool) -> Providers:
        """Return the providers of the component's imports; raise ``LinkError`` if an import has none."""
        return component_outlines.ParentProviders(component, imports, self.policy.imports, trap_missing=trap_missing)

    def component_plan(
        self, component: Component, providers: Providers, *, watched: bool = False, pooled: bool = True
    ) -> Any:
        """Return the plan for calls into a component."""
        config = self.engine_of(component, watched=watched)
        make = lambda: component_outlines.ComponentOutline(component, self.policy.limits, providers, config)  # noqa: E731
        return component.planned(("isolated", config, self.policy.limits, providers.key), make)

    def close(self) -> None:
        """Stop the idle workers."""
        self.pool.close()

    # -- one sandbox ---------------------------------------------------------------------------

    def memory(self, door: Any) -> Any:
        """Return the memory of the guest for host functions; the sandbox's store is set later."""
        return RemoteMemory(None, charged=True)

    def offered(self, run: Run, module: Module, memory: Any) -> Sequence[HostFunction]:
        """Return placeholders for host functions of Aegis that the module imports; the worker provides them."""
        found = []
        for key in wants_host(module):
            signature = offers(*key)
            if signature is not None:
                found.append(HostFunction(*key, type=signature, call=provided_by_worker))
        return found

    def served(self, run: Run, module: Module, memory: Any) -> None:
        """Return ``None``: the worker serves the host functions of Aegis."""

    def plain_store(self, run: Run, module: Module) -> Any:
        """Instantiate a module that has neither imports nor a start function."""
        return self.module_store(run, self.plan(module), ())

    def module_store(self, run: Run, plan: Any, functions: Sequence[HostFunction]) -> Any:
        """Instantiate a module in a worker."""
        own = frozenset(n for n, function in enumerate(functions) if _is_embedders(function.call))
        remote = tuple((functions[n].module, functions[n].name) for n in sorted(own))
        host = ModuleFunctions(functions, own, all_answered=run.answer is not None)
        store = self._begin(run, plan, host, remote)
        memory: Any = run.memory
        if memory is not None:
            memory.store = store
        return store

    def component_store(
        self, run: Run, plan: Any, functions: Sequence[Callable[..., Any]],
        *, classes: Callable[[int], Callable[..., ResourceHandle]],
    ) -> Any:  # fmt: skip
        """Instantiate a component in a worker."""
        component = plan.artifact
        answered = run.answer is not None
        held = handles.ParentHandles(component.world.imported, self.policy.limits.handles, classes, answered=answered)
        if plan.is_async:
            functions = on_threads(functions, run.door)
        host = component_host_calls.ComponentFunctions(
            plan.functions, functions, held, plan.served, all_answered=answered
        )
        held.prepare_ends(partial(_prepare_first_ends, run.door))
        store = self._begin(run, plan, host, plan.remote)
        if plan.is_async:
            run.turns = _turns(run, weakref.ref(store))
            held.prepare_ends(partial(_prepare_ends, run.turns, weakref.ref(store)))
        return store

    def serve(self, run: Run, store: Any, handler: Any, head: ServedHead, connection: _socket.socket) -> bytes:
        """Have the guest serve one request; return the bytes that the connection had no room for."""
        from aegis.isolation.parent.serving import call_handler  # few sandboxes serve requests

        return call_handler(store, head, connection)

    # -- starting a sandbox --------------------------------------------------------------------

    def _begin(self, run: Run, plan: Any, host: HostFunctions, remote: tuple[tuple[str, str], ...]) -> IsolatedStore:
        with standard_reserved():
            return self._begun(run, plan, host, remote)

    def _begun(self, run: Run, plan: Any, host: HostFunctions, remote: tuple[tuple[str, str], ...]) -> IsolatedStore:
        artifact, policy = plan.artifact, self.policy_of(run)
        bundle = _DescriptorBundle(self.code(artifact, f"the {artifact.kind}", plan.config))
        stdio: Stdio | None = None
        services: Services | None = None
        own: Grants | None = None
        try:
            bundle.fill(policy, self.protected)
            services = bundle.serve(policy)
            stdio = acquire_stdio(policy.stdio, policy.limits, run.door)
            reuse_key = self._reuse_key(artifact, plan, bundle)
            worker = self.pool.take_used(reuse_key) or self._fresh(artifact)
            delivery = Delivery(stdio)
            store = IsolatedStore(
                worker, plan, run.door, host, self._ender(reuse_key), delivery, services,
                data_bytes=self._data_bytes(policy), final_report=reuse_key is not None,
            )  # fmt: skip
            spec = self._sandbox_spec(run, plan, policy, bundle, delivery, worker, remote)
            bundle.check()
            own = acquire(policy, scope=run.door)
            # Before the store begins: a start function may use grants.
            run.grants = _RemoteGrants(store, stdio, host, own)  # type: ignore[assignment]
            store.begin(pack(spec, self.known), bundle.descriptors, self.options.grace)
        except BaseException:
            run.grants = None
            for held in (host.handles, stdio, services, own):
                if held is not None:
                    held.close()
            raise
        finally:
            bundle.close()
        return store

    def _fresh(self, artifact: Artifact) -> Worker:
        """Return a worker without a previous sandbox, forked after the modules that the artifact needs are imported."""
        first = self.pool.take_first()
        if first is not None:
            return first
        self.pool.load(_modules(artifact, self.policy))
        return self.pool.take()

    def _reuse_key(self, artifact: Artifact, plan: Any, bundle: _DescriptorBundle) -> str | None:
        """Return the key of sandboxes that this sandbox's worker may serve later; ``None`` if it is not reusable.

        The worker's confinement is irreversible, so later sandboxes have the same artifact and no granted files.
        """
        if not self.options.recycle or bundle.folders:
            return None
        return f"{artifact.digest} {plan.config.fingerprint()}"

    def _ender(self, reuse_key: str | None) -> Callable[[Worker, bool], None]:
        def end(worker: Worker, clean: bool) -> None:
            self.pool.give(worker, reuse_key, clean=clean)
            self.pool.refill()

        return end

    def _sandbox_spec(
        self, run: Run, plan: Any, policy: Policy, bundle: _DescriptorBundle, delivery: Delivery, worker: Worker,
        remote: tuple[tuple[str, str], ...],
    ) -> SandboxSpec:  # fmt: skip
        artifact = plan.artifact
        stdio = delivery.stdio
        return SandboxSpec(
            policy=_without_secrets(policy), config=plan.config, kind=artifact.kind, digest=artifact.digest,
            shape=bundle.shape(artifact), code=bundle.code.places, shared=bundle.add(worker.shared),
            folders=tuple(bundle.folders),
            stdin=stdio.stdin.descriptor is not None, stdout=stdio.stdout.mode, stderr=stdio.stderr.mode,
            terminals=delivery.terminals(), resolver=bundle.resolver, sockets=bundle.sockets, times=bundle.times,
            args=run.args, environment=tuple(_environment(policy)),
            remote=remote, observed=run.observed and run.bus.active, denials=run.denied is not None,
            answered=run.answer is not None, trap_missing=run.trap_missing, data_bytes=self._data_bytes(policy),
            strict=self.options.strict,
            skip=self.options.without,
            modules=_modules(artifact, policy),
        )  # fmt: skip

    def _data_bytes(self, policy: Policy) -> int | None:
        """Return the limit of a worker's additional private memory: the guest's memory, values, and the overhead."""
        limits = policy.limits
        if limits.memory is None or limits.value_bytes is None:
            return None
        return limits.memory + _VALUE_FORMS * limits.value_bytes + self.options.overhead


def _forked() -> Worker | None:
    """Return the worker that this process forked at its start, if it is a command that did so."""
    forked = sys.modules.get("aegis.isolation.parent.forked")
    worker: Worker | None = None if forked is None else forked.take_forked()
    return worker


class _DescriptorBundle:
    """The descriptors to pass to a worker, and the purpose of each."""

    def __init__(self, code: Code) -> None:
        self.code = code
        self.descriptors = [file.descriptor for file in code.distinct]
        self.folders: list[Folder] = []
        self.resolver: int | None = None
        self.sockets: int | None = None
        self.times: int | None = None
        self._opened: OpenDescriptors | None = None
        self._preopens: list[Preopen] = []
        self._services: Services | None = None

    def add(self, descriptor: int) -> int:
        """Add a descriptor; return its index."""
        self.descriptors.append(descriptor)
        return len(self.descriptors) - 1

    def shape(self, artifact: Artifact) -> bytes | int:
        """Return the pickled description of the artifact, or the index of a file that contains it."""
        shape = self.code.shape(artifact)
        return shape if isinstance(shape, bytes) else self.add(shape.descriptor)

    def check(self) -> None:
        """Raise ``PolicyError`` if there are more descriptors than one message can carry."""
        if len(self.descriptors) > MAX_DESCRIPTORS:
            raise PolicyError(
                f"isolation: too many open files for a worker process ({len(self.descriptors):,}/"
                f"{MAX_DESCRIPTORS}, for code and grants): grant directories instead of single files"
            )

    def fill(self, policy: Policy, protected: Sequence[Protected]) -> None:
        """Open the granted files and directories; raise ``PolicyError`` if one cannot be opened."""
        if policy.filesystem.paths:
            from aegis.host.files.directory import OpenDescriptors
            from aegis.host.files.preopens import acquire_filesystem
            from aegis.host.files.protected import protected_by

            self._opened = OpenDescriptors()
            protected = (*protected, *protected_by(policy))
            self._preopens = acquire_filesystem(policy.filesystem, protected, self._opened)
            self.folders = [self._folder(preopen) for preopen in self._preopens]

    def serve(self, policy: Policy) -> Services:
        """Create the parent's services for the worker, and add the worker's ends of their sockets."""
        made = self._services = Services(policy, self._preopens)
        if made.lookups is not None:
            self.resolver = self.add(made.lookups.worker_end.fileno())
        if made.sockets is not None:
            self.sockets = self.add(made.sockets.worker_end.fileno())
        if made.times is not None:
            self.times = self.add(made.times.worker_end.fileno())
        return made

    def _folder(self, preopen: Preopen) -> Folder:
        from aegis.host.files.directory import HostDirectory
        from aegis.host.files.single_file import SingleFiles

        directory = preopen.directory
        if isinstance(directory, SingleFiles):
            files = {name: (self.add(file.descriptor), file.writable) for name, file in directory.files.items()}
            return Folder(guest=preopen.guest, descriptor=None, writable=False, files=files)
        assert isinstance(directory, HostDirectory)  # a policy grants only files and directories
        return Folder(guest=preopen.guest, descriptor=self.add(directory.descriptor), writable=directory.writable)

    def close(self) -> None:
        """Close the parent's copies of the descriptors that the worker has received."""
        if self._opened is not None:
            self._opened.close_all()
        if self._services is not None:
            self._services.handed_over()
        self._preopens = []


class _RemoteGrants:
    """The grants of a sandbox in a worker: output counters for the meter, and the grants that stay in the parent."""

    def __init__(self, store: IsolatedStore, stdio: Stdio, host: HostFunctions, own: Grants) -> None:
        self._store, self._stdio, self._host, self._own = store, stdio, host, own
        self.stdio = self.acquired_stdio = self

    def __getattr__(self, name: str) -> Any:
        """Return a grant of an interface that the index places in the parent; it is acquired at its first use."""
        return getattr(self._own, name)

    def written(self, stream: int) -> int:
        """Return the bytes that the guest wrote to stdout (1) or stderr (2); the worker reports discarded output."""
        output = self._stdio.stdout if stream == 1 else self._stdio.stderr
        return self._store.written[stream] if output.mode == "discard" else output.written

    def stdout_bytes(self) -> bytes:
        """Return the captured stdout; the parent holds it, even if the worker died."""
        return self._stdio.stdout_bytes()

    def stderr_bytes(self) -> bytes:
        """Return the captured stderr; the parent holds it, even if the worker died."""
        return self._stdio.stderr_bytes()

    def failure(self) -> tuple[str, OSError] | None:
        """Return the name of a stream that could not be written, and the error; ``None`` if there is none."""
        return self._stdio.failure()

    def close(self) -> None:
        """Drop the embedder's objects that the guest holds, and close the streams and grants."""
        if self._host.handles is not None:
            self._host.handles.close()
        self._stdio.close()
        self._own.close()


def _is_embedders(function: Callable[..., Any]) -> bool:
    """Return whether the embedder provides a function; the worker has all others."""
    return function is not provided_by_worker and not isinstance(function, MissingFunction)


def _modules(artifact: Artifact, policy: Policy) -> tuple[str, ...]:
    """Return the Python modules that a worker must import before confinement."""
    wanted: tuple[str, ...] = ()
    if artifact.kind == "component":
        component: Any = artifact
        wanted = component.planned("modules", lambda: component_modules.modules_of(component.world))
    if policy.network is not None:
        wanted += ("aegis.host.net.network", "ssl", "h11", "h2.connection", "certifi")
    return wanted


def _without_secrets(policy: Policy) -> Policy:
    """Return the policy for a worker: without host paths and without the capabilities that the parent implements."""
    from aegis.policy import StdioCapability

    stdin = policy.stdio.stdin if isinstance(policy.stdio.stdin, bytes) else "empty"
    stdio = StdioCapability(stdin=stdin, stdout=policy.stdio.stdout, stderr=policy.stdio.stderr)
    return replace(policy.for_workers(), stdio=stdio)


def _environment(policy: Policy) -> list[tuple[str, str]]:
    from aegis.host.grants import environment_of

    return environment_of(policy.environment)


def _prepare_first_ends(door: Door, ends: EndTable) -> None:
    """Give the streams of a guest that is being instantiated what they need: its start function may read them."""
    ends.door = door


def _turns(run: Run, store: weakref.ref[IsolatedStore]) -> GuestTurns:
    """Return the turns of an asynchronous component; few sandboxes have one."""
    from aegis.isolation.parent.remote_guest import RemoteGuest
    from aegis.sandbox.guest_turns import GuestTurns

    return GuestTurns(run, store(), partial(RemoteGuest, store))


def _prepare_ends(turns: GuestTurns, store: Callable[[], IsolatedStore | None], ends: EndTable) -> None:
    """Give the streams of a sandbox what they need of it; they refer to the store weakly, which owns them."""
    ends.door, ends.turns = _live(store).door, lambda: turns
    ends.request = lambda *words: _live(store).request(*words)
    ends.validated = lambda read: _live(store).validated(read)
    ends.work = lambda: getattr(store(), "overlapping", None)


def _live(store: Callable[[], IsolatedStore | None]) -> IsolatedStore:
    found = store()
    if found is None:
        raise SandboxStateError("the guest of this stream was closed or replaced: read it before", state="closed")
    return found
