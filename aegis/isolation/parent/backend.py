"""The backend of guests that run in workers: it opens the grants, and hands their descriptors over."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from aegis.engine.compile.config import EngineConfig
from aegis.engine.store.missing import MissingFunction
from aegis.errors import PolicyError
from aegis.host import Grants, acquire, offers
from aegis.host.stdio import Stdio, acquire_stdio
from aegis.isolation.parent.code import Code, code_for
from aegis.isolation.parent.host_calls import HostFunctions, ModuleFunctions
from aegis.isolation.parent.memory import RemoteMemory
from aegis.isolation.parent.outlines import ModuleOutline, in_the_worker
from aegis.isolation.parent.pool import Pool, Worker
from aegis.isolation.parent.services import Services
from aegis.isolation.parent.store import IsolatedStore
from aegis.isolation.parent.streams import Delivery
from aegis.isolation.protocol.channel import MAX_DESCRIPTORS
from aegis.isolation.protocol.packets import PACKET
from aegis.isolation.protocol.pickled import dumps
from aegis.isolation.protocol.setup import Brief, Folder, Setup, pack
from aegis.observe.bus import Subscriber
from aegis.policy import Policy
from aegis.policy.isolation import Isolation
from aegis.sandbox.in_process import BaseBackend
from aegis.sandbox.link_module import wants_host
from aegis.support.descriptors import standard_reserved
from aegis.support.lean import TYPE_CHECKING, Any, late, replace
from aegis.values import HostFunction

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component
    from aegis.engine.compile.artifact import Module
    from aegis.engine.compile.cache import Cache
    from aegis.engine.compile.code import Artifact
    from aegis.host.files.directory import OpenDescriptors
    from aegis.host.files.preopens import Preopen
    from aegis.host.files.protected import Protected
    from aegis.isolation.parent import component_host_calls, component_modules, component_outlines, handles
    from aegis.sandbox.link_component import Providers
    from aegis.sandbox.run import Run
    from aegis.wit.values import ResourceHandle
else:  # of components alone
    component_modules = late("aegis.isolation.parent.component_modules")
    component_outlines = late("aegis.isolation.parent.component_outlines")
    component_host_calls = late("aegis.isolation.parent.component_host_calls")
    handles = late("aegis.isolation.parent.handles")

__all__ = ["IsolatedBackend"]

_VALUE_FORMS = 4
"""Times that a worker may hold ``value_bytes``: while a value passes it is there as handles, as plain data and as a
message, up to 3.2 times its size as measured, beside what the host keeps for the guest. ``host_bytes`` does not count:
what is copied in the course of a call is not held at the same time."""


class IsolatedBackend(BaseBackend):
    """Guests in worker processes, as ``options`` say. Its pool is warm from the start."""

    def __init__(
        self, policy: Policy, config: EngineConfig, options: Isolation, cache: Cache | None,
        subscribers: Sequence[Subscriber] = (), *, exact: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(policy, subscribers)
        self.config, self.options, self._cache = config.for_workers(), options, cache
        if options.strict:
            from aegis.engine.native.advisories import refuse_reachable

            refuse_reachable()
        self.exact = exact or bool(subscribers)
        brief = Brief.of(policy, options.without)
        if len(dumps(brief)) > PACKET // 2:  # it goes in one packet; a policy of many rules goes with each setup
            brief = replace(brief, known=Policy())
        self.known = brief.known
        first = _forked()
        workers, recycle = (options.workers, options.recycle) if first is None else (0, 0)
        self.pool = Pool(config.stack, workers, recycle, brief, first)

    # -- artifacts and plans -------------------------------------------------------------------

    def engine_of(self, artifact: Artifact, *, watched: bool = False) -> EngineConfig:
        """Return the kind of engine for ``artifact``; ``watched`` by somebody who wants to see its memory."""
        counted = artifact.counted(self.policy.limits, watched=watched or self.exact)
        return self.config.with_count() if counted else self.config

    def prepare(self, artifact: Artifact, what: str, config: EngineConfig | None = None) -> Code:
        """Return an artifact's code for workers, compiled in one if need be; a component then knows its world."""
        code = code_for(artifact, config or self.engine_of(artifact), self.pool, self.options, self._cache, what)
        if artifact.kind == "component":
            artifact.told = code.world  # type: ignore[attr-defined]
        return code

    def plan(self, module: Module, *, watched: bool = False, pooled: bool = True) -> Any:
        """Return what calling into a module needs to know."""
        return ModuleOutline(module, self.policy.limits, self.engine_of(module, watched=watched))

    def providers(self, component: Component, imports: Mapping[str, Any], *, trap_missing: bool) -> Providers:
        """Return who provides what ``component`` imports; raise ``LinkError`` for what nobody does."""
        return component_outlines.Embedders(component, imports, self.policy.imports, trap_missing=trap_missing)

    def component_plan(
        self, component: Component, providers: Providers, *, watched: bool = False, pooled: bool = True
    ) -> Any:
        """Return what calling into a component needs to know."""
        config = self.engine_of(component, watched=watched)
        make = lambda: component_outlines.ComponentOutline(component, self.policy.limits, providers, config)  # noqa: E731
        return component.planned(("isolated", config, self.policy.limits, providers.key), make)

    # -- what one sandbox gets -----------------------------------------------------------------

    def memory(self, door: Any) -> Any:
        """Return the access of host functions to a module's memory."""
        return RemoteMemory(None, charged=True)

    def offered(self, run: Run, module: Module, memory: Any) -> Sequence[HostFunction]:
        """Return what stands for the host's own functions, which the worker has."""
        found = []
        for key in wants_host(module):
            signature = offers(*key)
            if signature is not None:
                found.append(HostFunction(*key, type=signature, call=in_the_worker))
        return found

    def served(self, run: Run, module: Module, memory: Any) -> None:
        """Return ``None``: the worker serves what the host does."""

    def plain_store(self, run: Run, module: Module) -> Any:
        """Instantiate a module that imports nothing and starts nothing."""
        return self.module_store(run, self.plan(module), ())

    def module_store(self, run: Run, plan: Any, functions: Sequence[HostFunction]) -> Any:
        """Instantiate a module in a worker."""
        own = [function if _is_embedders(function.call) else None for function in functions]
        remote = tuple((function.module, function.name) for function in own if function is not None)
        store = self._begin(run, plan, ModuleFunctions(own), remote)
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
        held = handles.ParentHandles(component.world.imported, self.policy.limits.handles, classes)
        host = component_host_calls.ComponentFunctions(plan.functions, functions, held, plan.served)
        return self._begin(run, plan, host, plan.remote)

    # -- handing over --------------------------------------------------------------------------

    def _begin(self, run: Run, plan: Any, host: HostFunctions, remote: tuple[tuple[str, str], ...]) -> IsolatedStore:
        with standard_reserved():
            return self._begun(run, plan, host, remote)

    def _begun(self, run: Run, plan: Any, host: HostFunctions, remote: tuple[tuple[str, str], ...]) -> IsolatedStore:
        artifact, policy = plan.artifact, self.policy_of(run)
        parcel = _Parcel(self.prepare(artifact, f"the {artifact.kind}", plan.config))
        stdio: Stdio | None = None
        services: Services | None = None
        own: Grants | None = None
        try:
            parcel.fill(policy, self.protected)
            services = parcel.serve(policy)
            stdio = acquire_stdio(policy.stdio, policy.limits, run.door)
            line = self._line(artifact, plan, parcel)
            worker = self.pool.take_used(line) or self._fresh(artifact)
            delivery = Delivery(stdio)
            store = IsolatedStore(
                worker, plan, run.door, host, self._ender(line), delivery, services,
                data_bytes=self._data_bytes(policy), farewell=line is not None,
            )  # fmt: skip
            setup = self._setup(run, plan, policy, parcel, delivery, worker, remote)
            parcel.check()
            own = acquire(policy, scope=run.door)
            run.grants = _Grants(store, stdio, host, own)  # type: ignore[assignment]  # a start function may use one
            store.begin(pack(setup, self.known), parcel.descriptors, self.options.grace)
        except BaseException:
            run.grants = None
            for held in (stdio, services, own):
                if held is not None:
                    held.close()
            raise
        finally:
            parcel.close()
        return store

    def _fresh(self, artifact: Artifact) -> Worker:
        """Return a fresh worker, in which what the artifact needs of ours is imported already."""
        first = self.pool.take_first()
        if first is not None:
            return first
        self.pool.load(_modules(artifact, self.policy))
        return self.pool.take()

    def _line(self, artifact: Artifact, plan: Any, parcel: _Parcel) -> str | None:
        """Return which sandboxes a worker of this one may serve after it, ``None`` for none.

        Its doors stay as they were closed, so it is one of the same artifact, to which no directory is granted.
        """
        if not self.options.recycle or parcel.folders:
            return None
        return f"{artifact.digest} {plan.config.fingerprint()}"

    def _ender(self, line: str | None) -> Callable[[Worker, bool], None]:
        def end(worker: Worker, clean: bool) -> None:
            self.pool.give(worker, line, clean=clean)
            self.pool.refill()

        return end

    def _setup(
        self, run: Run, plan: Any, policy: Policy, parcel: _Parcel, delivery: Delivery, worker: Worker,
        remote: tuple[tuple[str, str], ...],
    ) -> Setup:  # fmt: skip
        artifact = plan.artifact
        stdio = delivery.stdio
        return Setup(
            policy=_without_secrets(policy), config=plan.config, kind=artifact.kind, digest=artifact.digest,
            shape=parcel.shape(artifact), code=parcel.code.places, shared=parcel.add(worker.shared),
            folders=tuple(parcel.folders),
            stdin=stdio.stdin.descriptor is not None, stdout=stdio.stdout.mode, stderr=stdio.stderr.mode,
            terminals=delivery.terminals(), resolver=parcel.resolver, sockets=parcel.sockets, times=parcel.times,
            args=run.args, environment=tuple(_environment(policy)),
            remote=remote, observed=run.observed and run.bus.active, denials=run.denied is not None,
            trap_missing=run.trap_missing, data_bytes=self._data_bytes(policy), strict=self.options.strict,
            skip=self.options.without,
            modules=_modules(artifact, policy),
        )  # fmt: skip

    def _data_bytes(self, policy: Policy) -> int | None:
        """Return what a worker's private memory may be: the guest's, a value in all its forms, and the rest."""
        limits = policy.limits
        if limits.memory is None or limits.value_bytes is None:
            return None
        return limits.memory + _VALUE_FORMS * limits.value_bytes + self.options.overhead


def _forked() -> Worker | None:
    """Return the worker that a command forked before it began, if this is one's."""
    forked = sys.modules.get("aegis.isolation.parent.forked")
    worker: Worker | None = None if forked is None else forked.take_forked()
    return worker


class _Parcel:
    """The descriptors that go to a worker, and which of them means what."""

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
        """Put a descriptor in, and return its place."""
        self.descriptors.append(descriptor)
        return len(self.descriptors) - 1

    def shape(self, artifact: Artifact) -> bytes | int:
        """Return what the worker must know of the artifact, or the place of the file that holds it."""
        shape = self.code.shape(artifact)
        return shape if isinstance(shape, bytes) else self.add(shape.descriptor)

    def check(self) -> None:
        """Raise ``PolicyError`` for more descriptors than a worker takes."""
        if len(self.descriptors) > MAX_DESCRIPTORS:
            raise PolicyError(
                f"isolation: more open files for a worker process than it takes ({len(self.descriptors):,}/"
                f"{MAX_DESCRIPTORS}, those of code and of grants): grant directories instead of single files"
            )

    def fill(self, policy: Policy, protected: Sequence[Protected]) -> None:
        """Open what was granted; raise ``PolicyError`` for what cannot be."""
        if policy.filesystem.paths:
            from aegis.host.files.directory import OpenDescriptors
            from aegis.host.files.preopens import acquire_filesystem
            from aegis.host.files.protected import protected_by

            self._opened = OpenDescriptors()
            protected = (*protected, *protected_by(policy))
            self._preopens = acquire_filesystem(policy.filesystem, protected, self._opened)
            self.folders = [self._folder(preopen) for preopen in self._preopens]

    def serve(self, policy: Policy) -> Services:
        """Return what the parent does for the worker, and put in the sockets that it takes."""
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
        assert isinstance(directory, HostDirectory)  # a grant of the policy is one or the other
        return Folder(guest=preopen.guest, descriptor=self.add(directory.descriptor), writable=directory.writable)

    def close(self) -> None:
        """Close what the worker has its own copies of now."""
        if self._opened is not None:
            self._opened.close_all()
        if self._services is not None:
            self._services.handed_over()
        self._preopens = []


class _Grants:
    """Answer a sandbox's meter for grants that are in a worker, and hold those that stay in the parent."""

    def __init__(self, store: IsolatedStore, stdio: Stdio, host: HostFunctions, own: Grants) -> None:
        self._store, self._stdio, self._host, self._own = store, stdio, host, own
        self.stdio = self.acquired_stdio = self

    def __getattr__(self, name: str) -> Any:
        """Return a grant of an interface that the index places in the parent; it is acquired at its first use."""
        return getattr(self._own, name)

    def written(self, stream: int) -> int:
        """Bytes that the guest wrote to stdout (1) or stderr (2); of discarded output only the worker knows."""
        output = self._stdio.stdout if stream == 1 else self._stdio.stderr
        return self._store.written[stream] if output.mode == "discard" else output.written

    def stdout_bytes(self) -> bytes:
        """What was captured of stdout, whatever became of the worker."""
        return self._stdio.stdout_bytes()

    def stderr_bytes(self) -> bytes:
        """What was captured of stderr, whatever became of the worker."""
        return self._stdio.stderr_bytes()

    def failure(self) -> tuple[str, OSError] | None:
        """The stream whose output could not be delivered, and why."""
        return self._stdio.failure()

    def close(self) -> None:
        """Close stdin, and let the embedder's objects know that the guest holds them no more."""
        if self._host.handles is not None:
            self._host.handles.close()
        self._stdio.close()
        self._own.close()


def _is_embedders(function: Callable[..., Any]) -> bool:
    """Tell whether a function is the embedder's; the worker has the host's, and what traps for lack of one."""
    return function is not in_the_worker and not isinstance(function, MissingFunction)


def _modules(artifact: Artifact, policy: Policy) -> tuple[str, ...]:
    """Return the modules that a worker must import before it is confined; afterwards it can import no more."""
    wanted: tuple[str, ...] = ()
    if artifact.kind == "component":
        component: Any = artifact
        wanted = component.planned("modules", lambda: component_modules.modules_of(component.world))
    if policy.network is not None:
        wanted += ("aegis.host.net.network", "ssl", "h11", "h2.connection", "certifi")
    return wanted


def _without_secrets(policy: Policy) -> Policy:
    """Return the policy as a worker needs it: without the host's paths, and what the parent provides."""
    from aegis.policy import StdioCapability

    stdin = policy.stdio.stdin if isinstance(policy.stdio.stdin, bytes) else "empty"
    stdio = StdioCapability(stdin=stdin, stdout=policy.stdio.stdout, stderr=policy.stdio.stderr)
    return replace(policy.for_workers(), stdio=stdio)


def _environment(policy: Policy) -> list[tuple[str, str]]:
    from aegis.host.grants import environment_of

    return environment_of(policy.environment)
