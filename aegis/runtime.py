"""The runtime: compile artifacts and create sandboxes under one policy."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from threading import Lock as allocate_lock

from aegis.engine.compile.artifact import Module, read_file, text_to_binary
from aegis.engine.compile.cache import Cache
from aegis.engine.compile.config import EngineConfig
from aegis.errors import ArtifactError, GuestError, PolicyError
from aegis.limits import LIMIT_ALIASES, LIMIT_NAMES
from aegis.observe.bus import Subscriber
from aegis.observe.outcome import Outcome
from aegis.policy.policy import KEYWORDS, Policy
from aegis.sandbox.artifacts import admit_artifact
from aegis.sandbox.entry_points import entry_point, require_entry
from aegis.sandbox.in_process import InProcessBackend
from aegis.sandbox.programs import ended
from aegis.sandbox.run import GuestRun
from aegis.sandbox.sandbox import Sandbox
from aegis.support.keywords import DEFAULT, given
from aegis.support.lean import TYPE_CHECKING, Any, late, replace
from aegis.text import printable
from aegis.values import AnswerStep, Decision

if TYPE_CHECKING:
    from datetime import timedelta
    from typing import Literal, Never, TypeAlias

    from aegis.component.planning.artifact import Component
    from aegis.isolation.parent.backend import IsolatedBackend
    from aegis.limits import Amount, Duration, Limits

    # [capabilities: parameter types]
    from aegis.policy.isolation import Isolation
    from aegis.policy.short_forms import Clock, Configuration, Environment, Files, KeyValue, Logging, Network, Random
    from aegis.policy.statements import StdioCapability

    # [end]
    from aegis.sandbox.backend import Backend
    from aegis.sandbox.opening import SandboxOpening

    ExactMemory: TypeAlias = bool | Literal["all"]

_short_forms: Any = late("aegis.policy.short_forms")

__all__ = ["Aegis", "Builder", "compiled_by", "run"]


def __dir__() -> list[str]:
    return sorted(__all__)


class Aegis:
    """A runtime: the engine, the compilation cache and one policy for all its sandboxes.

    Creating a runtime is expensive, creating a sandbox is cheap: keep one runtime per policy. Threads may share a
    runtime; its sandboxes are independent of each other. Use the runtime in a ``with`` statement, or :meth:`close` it,
    if sandboxes are isolated.

    ``policy``
        The grants and limits. Without it, the capabilities and limits given as keywords make the policy, as in
        :meth:`aegis.Policy.from_keywords`; without those, nothing is granted and every limit has its default. Limits
        are numbers or text with a unit, such as ``memory="64MiB"`` or ``timeout="30s"``; ``None`` lifts one
        (:class:`aegis.Limits`). For a capability, the text of its command-line option is enough, or a list of them:
        ``network="tcp://10.0.0.1:5432"``, ``filesystem=["/data"]`` (read-only), ``environment={"TZ": "UTC"}``.
    ``proposals``
        Names of WebAssembly proposals to enable beyond the default, such as ``["exceptions"]``. Some need ``isolation``
        (:class:`aegis.Policy`).
    ``cache``
        Where compiled code is stored: ``True`` for the user's cache directory, a path, or ``False`` for nowhere.
    ``cache_size``
        Bytes that the cache may take on disk; the newest entries stay. ``None`` lifts the limit. The default is 512
        MiB, or the value of the environment variable ``AEGIS_CACHE_SIZE``.
    ``subscribers``
        Callables that receive the events of every sandbox; see :mod:`aegis.observe`.
    ``pooled``
        Reserve memory for many short-lived sandboxes. Pass ``False`` in a program that creates only one.
    ``exact_memory``
        Measure memories that are not exported too, which includes all memories of a component. Peak usage is then
        exact, and a trap after a refused growth is reported as :class:`~aegis.errors.MemoryExceeded`. Implied for a
        sandbox that has subscribers or is ``measured``. Costs the pool, a copy of the component's data for each
        sandbox, and on the main thread a switch to another thread for each call. The memory limit is enforced exactly
        in either case. ``"all"`` also counts memories that are exported: their size is known without that, but not that
        a growth was refused.
    ``max_concurrent_calls``
        Guests that asynchronous calls run at once; further calls wait for their turn, and waiting does not count as
        their time. A guest whose host function is awaited gives its turn away meanwhile. Without it, all runtimes
        share at least 32 turns.

    Raise :class:`~aegis.errors.PolicyError` for an invalid or unknown keyword, and ``TypeError`` for a policy together
    with keywords.

    >>> runtime = Aegis(memory="16MiB", timeout="1s", cache=False)
    >>> with runtime.sandbox(runtime.load_wat('(module (func (export "f") (result i32) i32.const 7))')) as sandbox:
    ...     sandbox.call("f")
    7
    """

    def __init__(
        self, policy: Policy | None = None, *, cache: bool | str | os.PathLike[str] = True,
        cache_size: Amount = DEFAULT,
        subscribers: Sequence[Subscriber] = (), pooled: bool = True, exact_memory: ExactMemory = False,
        max_concurrent_calls: int | None = None,
        limits: Limits = DEFAULT,
        # [capabilities: parameters]
        filesystem: Files = DEFAULT, environment: Environment = DEFAULT, clock: Clock = DEFAULT,
        random: Random = DEFAULT, logging: Logging = DEFAULT, stdio: StdioCapability = DEFAULT,
        network: Network = DEFAULT, keyvalue: KeyValue = DEFAULT, config: Configuration = DEFAULT,
        # [end]
        isolation: Isolation | Mapping[str, Any] | str | bool | None = DEFAULT,
        imports: Mapping[str, str] = DEFAULT, proposals: Sequence[str] = DEFAULT,
        memory: Amount = DEFAULT, fuel: Amount = DEFAULT, timeout: Duration = DEFAULT, stack: int | str = DEFAULT,
        table_elements: Amount = DEFAULT, memories: Amount = DEFAULT, tables: Amount = DEFAULT,
        instances: Amount = DEFAULT, module_size: Amount = DEFAULT, functions: Amount = DEFAULT,
        function_size: Amount = DEFAULT, locals: Amount = DEFAULT, nesting: Amount = DEFAULT,
        complexity: Amount = DEFAULT, stdout: Amount = DEFAULT, stderr: Amount = DEFAULT, handles: Amount = DEFAULT,
        tasks: Amount = DEFAULT, open_files: Amount = DEFAULT, sockets: Amount = DEFAULT, connections: Amount = DEFAULT,
        network_bytes: Amount = DEFAULT, resolver_answers: Amount = DEFAULT, http_requests: Amount = DEFAULT,
        http_fields: Amount = DEFAULT, http_field_bytes: Amount = DEFAULT, disk_written: Amount = DEFAULT,
        host_calls: Amount = DEFAULT, host_bytes: Amount = DEFAULT, value_bytes: Amount = DEFAULT,
        memory_limit: Amount = DEFAULT, fuel_limit: Amount = DEFAULT, stack_limit: int | str = DEFAULT,
        stdout_limit: Amount = DEFAULT, stderr_limit: Amount = DEFAULT,
        **unknown: Never,
    ) -> None:  # fmt: skip
        keywords = given(vars(), KEYWORDS)
        if policy is not None and keywords:
            raise TypeError(f"pass a policy or keywords, not both: {', '.join(keywords)}")
        if policy is not None and not isinstance(policy, Policy):
            remedy = "load a policy file with Aegis.from_config(path), and pass limits by keyword, such as timeout='5s'"
            raise PolicyError(f"policy is a Policy, not {type(policy).__name__}: {remedy}")
        self.policy = policy if policy is not None else Policy.from_keywords(**keywords)
        folder = None if cache in (True, False) else os.fspath(cache)  # type: ignore[arg-type]
        self.cache = None if cache is False else Cache(folder, size=cache_size)
        """The cache of compiled code; its ``fault`` is the reason why code is not stored."""
        limits, proposals = self.policy.limits, self.policy.proposals
        if proposals and self.policy.isolation is None:
            from aegis.support.proposals import require_isolation

            require_isolation(proposals)
        plain = EngineConfig.from_limits(limits, proposals=proposals)
        chosen = EngineConfig.from_limits(limits, pooled=True, proposals=proposals) if pooled else plain
        self._backend = InProcessBackend(
            self.policy, chosen, plain, subscribers, exact=bool(exact_memory), refusals=exact_memory == "all"
        )
        if self.policy.filesystem.paths:
            from aegis.sandbox.protected_paths import protected_from_grants

            self._backend.protected = protected_from_grants(self.cache)
        if max_concurrent_calls is not None:
            from aegis.sandbox.awaited import turns

            self._backend.turns = turns(max_concurrent_calls)
        named = self.policy.filesystem.paths, self.policy.keyvalue, self.policy.stdio.stdin_file
        self._checked = not any(named)
        """Whether the files that the policy names were found when the first sandbox was created."""
        self._isolated: IsolatedBackend | None = None
        self._starting = allocate_lock()
        self._backend_for()

    @classmethod
    def builder(cls) -> Builder:
        """Return a builder whose policy grants nothing and has every limit at its default."""
        return Builder()

    @classmethod
    def from_config(
        cls, path: str | os.PathLike[str], *more: str | os.PathLike[str],
        cache: bool | str | os.PathLike[str] = True, cache_size: Amount = DEFAULT,
        subscribers: Sequence[Subscriber] = (), pooled: bool = True, exact_memory: ExactMemory = False,
        max_concurrent_calls: int | None = None,
    ) -> Aegis:  # fmt: skip
        """Return a runtime with the policy file at ``path``; the keywords are those of the class.

        ``more`` policy files merge with it, as several ``-c`` of the command do. Raise
        :class:`~aegis.errors.PolicyError` with the line of the first mistake in the file.
        """
        from aegis.policy import load_policy

        return cls(
            load_policy(path, *more), cache=cache, cache_size=cache_size, subscribers=subscribers, pooled=pooled,
            exact_memory=exact_memory, max_concurrent_calls=max_concurrent_calls,
        )  # fmt: skip

    # -- artifacts -----------------------------------------------------------------------------

    def load_file(self, path: str | os.PathLike[str]) -> Module | Component:
        """Compile the module or component in a file, as a binary or as ``.wat`` text.

        Raise :class:`~aegis.errors.ArtifactNotFound` if the file cannot be read, and
        :class:`~aegis.errors.ArtifactError` if it is invalid or exceeds a limit.
        """
        return self._compile(read_file(path, self.policy.limits), printable(os.fspath(path)))

    def load(
        self,
        data: bytes | bytearray | memoryview,
        name: str = "the module",
        *,
        check: Callable[[Module | Component], None] | None = None,
    ) -> Module | Component:
        """Compile a binary module or component; ``name`` identifies it in errors.

        Text is rejected, because the engine would compile it too (F38): use :meth:`load_wat`.

        Aegis calls ``check`` before compiling; it may raise an exception to reject the artifact. The types of a
        component are not known at that point.

        Compilation cannot be interrupted, so ``timeout`` does not apply. Instead, the limits ``module_size``,
        ``functions``, ``function_size``, ``locals``, ``nesting`` and ``complexity`` bound its cost and are checked
        first. Code from the cache passed the same limits when it was compiled.

        Raise :class:`~aegis.errors.ArtifactError` for an artifact that is invalid or exceeds a limit.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            remedy = "text with load_wat" if isinstance(data, str) else "a file with load_file"
            raise ArtifactError(f"a module must be bytes, not {type(data).__name__}: load {remedy}()")
        return self._compile(bytes(data), printable(name), check)

    def load_wat(self, text: str) -> Module | Component:
        """Compile a module or component from WebAssembly text.

        Raise :class:`~aegis.errors.ArtifactError` for text that is invalid or exceeds a limit.
        """
        return self._compile(text_to_binary(text), "the module")

    def _compile(
        self, data: bytes, what: str, check: Callable[[Module | Component], None] | None = None
    ) -> Module | Component:
        artifact = admit_artifact(data, self.policy.limits, self.cache, what, self.policy.proposals)
        if check is not None:
            check(artifact)
        self._backend_for().prepare(artifact, what)
        if self.policy.network is not None and not isinstance(artifact, Module):
            from aegis.host.net.http.extra import log_missing_library

            log_missing_library(artifact.world.imports)
        return artifact

    def close(self) -> None:
        """Stop the idle workers of isolated sandboxes; without isolation, do nothing."""
        if self._isolated is not None:
            self._isolated.close()
            self._isolated = None

    def __enter__(self) -> Aegis:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _check_files(self) -> None:
        """Raise ``PolicyError`` for a file or directory that the policy names and that does not exist."""
        from aegis.host.files.start_checks import check_named_files

        check_named_files(self.policy)
        self._checked = True

    def _isolates(self, chosen: bool | None) -> bool:
        """Return whether a sandbox is isolated; raise ``PolicyError`` if a proposal does not allow it in this process.

        ``chosen`` overrides the policy.
        """
        isolated = self.policy.isolation is not None if chosen is None else chosen
        if self.policy.proposals and not isolated:
            from aegis.support.proposals import require_isolation

            require_isolation(self.policy.proposals)
        return isolated

    def _started(self, isolate: bool | None) -> Backend | None:
        """Return the backend for a sandbox, ``None`` if it has not started; see :meth:`_backend_for`."""
        isolated = self._isolates(isolate)
        return self._isolated if isolated else self._backend

    def _backend_for(self, isolate: bool | None = None) -> Backend:
        """Return the backend for a sandbox: that of the policy, or the one that ``isolate`` selects.

        The backend of isolated sandboxes starts its workers when it is first needed.
        """
        return self._started(isolate) or self._start_isolated()

    def _start_isolated(self) -> Backend:
        with self._starting:
            if self._isolated is None:
                from aegis.isolation.parent.backend import IsolatedBackend
                from aegis.policy import Isolation

                options, here = self.policy.isolation or Isolation(), self._backend
                made = IsolatedBackend(
                    self.policy, here.plain, options, self.cache, here.subscribers, exact=here.exact,
                    refusals=here.refusals,
                )  # fmt: skip
                made.protected, made.turns = here.protected, here.turns
                self._isolated = made
            return self._isolated

    # -- sandboxes -----------------------------------------------------------------------------

    def sandbox(
        self,
        module: Module | Component | None = None,
        *,
        imports: Mapping[str, Any] | None = None,
        args: Sequence[str] = (),
        subscribers: Sequence[Subscriber] = (),
        stdio: StdioCapability | None = None,
        measured: bool = False,
        denied: Callable[[Decision], None] | None = None,
        trap_missing: bool = False,
        answer: AnswerStep | None = None,
        isolate: bool | None = None,
    ) -> Sandbox:
        """Return a new sandbox, and instantiate ``module`` in it if one is given.

        ``imports``
            For a module, host functions by module name and function name. For a component, implementations by
            interface name.
        ``args``
            The program's arguments, starting with its name.
        ``subscribers``
            Callables that receive the events of this sandbox, in addition to those of the runtime.
        ``stdio``
            Standard streams that replace those of the policy.
        ``measured``
            Measure host time, and memory as with ``exact_memory``, even without subscribers.
        ``denied``
            Called with each request that the policy denied; cheaper than a subscriber.
        ``trap_missing``
            Let missing host functions trap when the guest calls them, instead of raising ``LinkError`` now. Missing
            memories, globals and tables still raise.
        ``answer``
            Called with each :class:`aegis.HostCall` in place of the host function, including those of WASI. It returns
            ``call.answer()``, which calls that function, or another value of its result type, or raises. For tests of
            a guest's error handling, and to record and replay calls. See :class:`aegis.AnswerStep`.
        ``isolate``
            Run the guest in a worker process (``True``) or in this one (``False``), regardless of the policy.

        Raise the errors of :meth:`aegis.Sandbox.load`; the first sandbox of a runtime also
        :class:`~aegis.errors.PolicyError` for a granted file or directory that does not exist, with its line in the
        policy file, even if the guest opens no file.
        """
        if not self._checked:
            self._check_files()
        run = GuestRun(
            self._backend_for(isolate), module, imports=imports, args=args, subscribers=subscribers, stdio=stdio,
            measured=measured, denied=denied, trap_missing=trap_missing, answer=answer,
        )  # fmt: skip
        return Sandbox(run)

    def asandbox(
        self, module: Module | Component | None = None, *, imports: Mapping[str, Any] | None = None,
        args: Sequence[str] = (), subscribers: Sequence[Subscriber] = (), stdio: StdioCapability | None = None,
        measured: bool = False, denied: Callable[[Decision], None] | None = None, trap_missing: bool = False,
        answer: AnswerStep | None = None, isolate: bool | None = None,
    ) -> SandboxOpening:  # fmt: skip
        """Return a sandbox like :meth:`sandbox`, to be created and closed off the event loop::

            async with runtime.asandbox(plugin) as sandbox:
                await sandbox.acall("run")

        ``await runtime.asandbox(plugin)`` returns a sandbox that the caller closes by :meth:`aegis.Sandbox.aclose`.
        Asynchronous host functions may serve start functions, and an asynchronous ``__drop__`` may end the objects that
        the guest holds at the end. Creation takes its turn among the asynchronous calls. It raises the errors of
        :meth:`sandbox`.
        """
        from aegis.sandbox.awaited import off_loop
        from aegis.sandbox.opening import SandboxOpening

        self._isolates(isolate)

        async def new_run() -> GuestRun:
            if not self._checked:
                await off_loop(self._check_files)
            backend = self._started(isolate) or await off_loop(self._start_isolated)
            return GuestRun(
                backend, imports=imports, args=args, subscribers=subscribers, stdio=stdio, measured=measured,
                denied=denied, trap_missing=trap_missing, answer=answer,
            )  # fmt: skip

        return SandboxOpening(Sandbox, new_run, module)


class Builder:
    """A step-by-step construction of a runtime. Builders are immutable: every method returns a new one.

    >>> runtime = Aegis.builder().with_memory_limit("32MiB").with_timeout("5s").build()
    >>> runtime.policy.limits.memory
    33554432
    """

    __slots__ = ("_options", "_policy")

    def __init__(self, policy: Policy | None = None, options: Mapping[str, Any] | None = None) -> None:
        self._policy = policy or Policy()
        self._options = dict(options or {})

    def _with(self, **changes: Any) -> Builder:
        return Builder(replace(self._policy, **changes), self._options)

    def with_limits(
        self, *,
        memory: Amount = DEFAULT, fuel: Amount = DEFAULT, timeout: Duration = DEFAULT, stack: int | str = DEFAULT,
        table_elements: Amount = DEFAULT, memories: Amount = DEFAULT, tables: Amount = DEFAULT,
        instances: Amount = DEFAULT, module_size: Amount = DEFAULT, functions: Amount = DEFAULT,
        function_size: Amount = DEFAULT, locals: Amount = DEFAULT, nesting: Amount = DEFAULT,
        complexity: Amount = DEFAULT, stdout: Amount = DEFAULT, stderr: Amount = DEFAULT, handles: Amount = DEFAULT,
        tasks: Amount = DEFAULT, open_files: Amount = DEFAULT, sockets: Amount = DEFAULT, connections: Amount = DEFAULT,
        network_bytes: Amount = DEFAULT, resolver_answers: Amount = DEFAULT, http_requests: Amount = DEFAULT,
        http_fields: Amount = DEFAULT, http_field_bytes: Amount = DEFAULT, disk_written: Amount = DEFAULT,
        host_calls: Amount = DEFAULT, host_bytes: Amount = DEFAULT, value_bytes: Amount = DEFAULT,
        memory_limit: Amount = DEFAULT, fuel_limit: Amount = DEFAULT, stack_limit: int | str = DEFAULT,
        stdout_limit: Amount = DEFAULT, stderr_limit: Amount = DEFAULT,
        **unknown: Never,
    ) -> Builder:  # fmt: skip
        """Set limits by name, such as ``stack="256KiB"``; ``None`` lifts one. See :class:`aegis.Limits`."""
        return self._with(limits=self._policy.limits.with_(**given(vars(), (*LIMIT_NAMES, *LIMIT_ALIASES))))

    def with_memory_limit(self, size: int | str | None) -> Builder:
        """Limit the bytes of all linear memories together."""
        return self.with_limits(memory=size)

    def with_fuel_limit(self, fuel: int | str | None) -> Builder:
        """Limit the fuel of one call, about one unit per instruction."""
        return self.with_limits(fuel=fuel)

    def with_timeout(self, timeout: float | str | timedelta | None) -> Builder:
        """Limit the wall-clock time of one call: seconds, a ``datetime.timedelta``, or text such as ``"30s"``."""
        return self.with_limits(timeout=timeout)

    def _state(self, name: str, value: Any) -> Builder:
        """Set a capability, which may be given in a short form."""
        return self._with(**{name: _short_forms.from_short_form(name, value)})

    def _add(self, name: str, value: Any) -> Builder:
        """Add to a capability; a value that is none raises the error of the policy."""
        before, given = getattr(self._policy, name), _short_forms.from_short_form(name, value)
        return self._with(**{name: before + given if isinstance(given, type(before)) else given})

    # [capabilities: builder methods]
    def with_filesystem(self, capability: Files) -> Builder:
        """Grant files and directories, in addition to earlier grants. A path by itself is granted read-only."""
        return self._add("filesystem", capability)

    def with_environment(self, capability: Environment) -> Builder:
        """Set the guest's environment variables: a capability, a mapping, or texts ``NAME`` and ``NAME=VALUE``."""
        return self._state("environment", capability)

    def with_clock(self, capability: Clock) -> Builder:
        """Set the clocks of the guest: a capability, or its text such as ``system``."""
        return self._state("clock", capability)

    def with_random(self, capability: Random) -> Builder:
        """Set the source of the guest's random bytes: a capability, or its text such as ``seed:42``."""
        return self._state("random", capability)

    def with_logging(self, capability: Logging) -> Builder:
        """Grant logging: a capability, or the lowest level, such as ``warn``."""
        return self._state("logging", capability)

    def with_stdio(self, capability: StdioCapability) -> Builder:
        """Set the standard streams of the guest."""
        return self._state("stdio", capability)

    def with_network(self, capability: Network) -> Builder:
        """Set the network rules for components: a capability, or patterns of allowed connections."""
        return self._state("network", capability)

    def with_keyvalue(self, capability: KeyValue) -> Builder:
        """Grant buckets of ``wasi:keyvalue``: a capability, or ``BUCKET`` and ``BUCKET=STORE`` texts."""
        return self._state("keyvalue", capability)

    def with_config(self, capability: Configuration) -> Builder:
        """Set the values that a component reads from ``wasi:config/store``: a capability, or a mapping."""
        return self._state("config", capability)

    # [end]

    def with_imports(self, providers: Mapping[str, str]) -> Builder:
        """Add Python objects (``module:name``) that implement interfaces for every sandbox."""
        return self._with(imports=(*self._policy.imports, *providers.items()))

    def with_proposals(self, *names: str) -> Builder:
        """Enable WebAssembly proposals, in addition to earlier ones; ``exceptions`` needs :meth:`with_isolation`."""
        return self._with(proposals=(*self._policy.proposals, *names))

    def with_isolation(
        self, isolation: Isolation | str | bool = True, *, strict: bool = DEFAULT, workers: int = DEFAULT,
        recycle: int = DEFAULT, without: Sequence[str] = DEFAULT, compile_time: Duration = DEFAULT,
        compile_memory: Amount = DEFAULT, overhead: int | str = DEFAULT, grace: float | str | timedelta = DEFAULT,
        **unknown: Never,
    ) -> Builder:  # fmt: skip
        """Run guests in worker processes, with the options of :class:`aegis.Isolation`.

        ``isolation`` is an ``Isolation``, ``"strict"``, ``True`` or ``False``; options by name replace it.
        """
        from aegis.policy.isolation import FIELDS

        return self._with(isolation=given(vars(), FIELDS) or isolation)

    def with_subscriber(self, subscriber: Subscriber) -> Builder:
        """Add a callable that receives the events of every sandbox.

        Raise :class:`~aegis.errors.PolicyError` if ``subscriber`` is not callable.
        """
        if not callable(subscriber):
            raise PolicyError(
                f"a subscriber must be callable, but {type(subscriber).__name__} is not: pass a function of one event"
            )
        return Builder(
            self._policy, {**self._options, "subscribers": (*self._options.get("subscribers", ()), subscriber)}
        )

    def with_event_subscriber(self, subscriber: Subscriber) -> Builder:
        """Add a subscriber; an alias of :meth:`with_subscriber`."""
        return self.with_subscriber(subscriber)

    def with_async_support(self, enabled: bool = True) -> Builder:
        """Do nothing: every runtime supports :meth:`aegis.Sandbox.acall` and asynchronous host functions.

        Raise :class:`~aegis.errors.PolicyError` for ``False``, because async support cannot be disabled.
        """
        if enabled is not True:
            raise PolicyError("async support is always on: leave with_async_support out")
        return self

    def with_max_concurrent_calls(self, calls: int | None) -> Builder:
        """Limit the guests that asynchronous calls run at once; see :class:`aegis.Aegis`."""
        return Builder(self._policy, {**self._options, "max_concurrent_calls": calls})

    def with_cache(self, cache: bool | str | os.PathLike[str] = True, *, size: Amount = DEFAULT) -> Builder:
        """Set where compiled code is stored: ``True`` (the user's cache directory), a path, or ``False`` (nowhere).

        ``size`` is the number of bytes that it may take; ``None`` lifts the limit.
        """
        return Builder(self._policy, {**self._options, "cache": cache, "cache_size": size})

    def build(self) -> Aegis:
        """Return the runtime; raise :class:`~aegis.errors.PolicyError` if the policy is invalid."""
        return Aegis(self._policy, **self._options)


def compiled_by(policy: Policy, compiler: str) -> Aegis:
    """Return a runtime whose guests a compiler of ``COMPILERS`` compiles, to compare compilers (``aegis fuzz --host``).

    It runs guests in this process, without a pool and without the cache.
    """
    runtime = Aegis(policy, cache=False, pooled=False)
    config = replace(runtime._backend.plain, compiler=compiler)
    runtime._backend = InProcessBackend(policy, config, config)
    return runtime


def run(
    path: str | os.PathLike[str], *call: Any, args: Sequence[str] = (), policy: Policy | None = None,
    function: str | None = None,
    limits: Limits = DEFAULT,
    # [capabilities: parameters]
    filesystem: Files = DEFAULT, environment: Environment = DEFAULT, clock: Clock = DEFAULT, random: Random = DEFAULT,
    logging: Logging = DEFAULT, stdio: StdioCapability = DEFAULT, network: Network = DEFAULT,
    keyvalue: KeyValue = DEFAULT, config: Configuration = DEFAULT,
    # [end]
    isolation: Isolation | Mapping[str, Any] | str | bool | None = DEFAULT, imports: Mapping[str, str] = DEFAULT,
    proposals: Sequence[str] = DEFAULT,
    memory: Amount = DEFAULT, fuel: Amount = DEFAULT, timeout: Duration = DEFAULT, stack: int | str = DEFAULT,
    table_elements: Amount = DEFAULT, memories: Amount = DEFAULT, tables: Amount = DEFAULT,
    instances: Amount = DEFAULT, module_size: Amount = DEFAULT, functions: Amount = DEFAULT,
    function_size: Amount = DEFAULT, locals: Amount = DEFAULT, nesting: Amount = DEFAULT,
    complexity: Amount = DEFAULT, stdout: Amount = DEFAULT, stderr: Amount = DEFAULT, handles: Amount = DEFAULT,
    tasks: Amount = DEFAULT, open_files: Amount = DEFAULT, sockets: Amount = DEFAULT, connections: Amount = DEFAULT,
    network_bytes: Amount = DEFAULT, resolver_answers: Amount = DEFAULT, http_requests: Amount = DEFAULT,
    http_fields: Amount = DEFAULT, http_field_bytes: Amount = DEFAULT, disk_written: Amount = DEFAULT,
    host_calls: Amount = DEFAULT, host_bytes: Amount = DEFAULT, value_bytes: Amount = DEFAULT,
    memory_limit: Amount = DEFAULT, fuel_limit: Amount = DEFAULT, stack_limit: int | str = DEFAULT,
    stdout_limit: Amount = DEFAULT, stderr_limit: Amount = DEFAULT,
    **unknown: Never,
) -> Outcome:  # fmt: skip
    """Run one module or component in a new runtime and return the outcome.

    ``function`` is the export to call with the arguments ``call``. Without it, run the program that the artifact is
    (``_start`` or ``wasi:cli/run``), its ``main``, or its only function. ``args`` are the program's arguments without
    its name. ``policy`` and the other keywords are those of :class:`aegis.Aegis`.

    An error that the guest causes is part of the outcome (``outcome.error``). Raise
    :class:`~aegis.errors.ArtifactError`, :class:`~aegis.errors.ExportNotFound`, :class:`~aegis.errors.LinkError` or
    :class:`~aegis.errors.PolicyError` if the run cannot start.
    """
    keywords = given(vars(), KEYWORDS)
    runtime = Aegis(policy, pooled=False, exact_memory=True, **keywords)
    data = read_file(path, runtime.policy.limits)
    module = runtime.load(data, os.fspath(path), check=lambda artifact: require_entry(artifact, function))
    name = os.path.basename(os.fspath(path))
    try:
        with runtime.sandbox(module, args=(name, *args)) as sandbox:
            chosen = function or entry_point(module)
            return ended(chosen, sandbox.run(chosen, *call))
    except GuestError as error:
        return Outcome.from_error(error)
