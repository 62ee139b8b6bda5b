"""The runtime: a policy, compiled modules, and the making of sandboxes. The shared, expensive part."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from aegis.engine.compile.artifact import Module, read_file, text_to_binary
from aegis.engine.compile.cache import Cache
from aegis.engine.compile.config import EngineConfig
from aegis.engine.store.plan import callable_export
from aegis.errors import ArtifactError, ExportNotFound, GuestError, GuestExit, PolicyError
from aegis.observe.bus import Subscriber
from aegis.observe.outcome import Outcome
from aegis.policy import (
    ClockCapability,
    ConfigCapability,
    EnvironmentCapability,
    FilesystemCapability,
    LoggingCapability,
    Policy,
    RandomCapability,
    StdioCapability,
)
from aegis.sandbox.artifacts import admit_artifact
from aegis.sandbox.in_process import InProcess
from aegis.sandbox.link_module import Faults
from aegis.sandbox.sandbox import Sandbox
from aegis.support.lean import TYPE_CHECKING, Any, replace
from aegis.text import near, printable
from aegis.values import Decision
from aegis.wit.declared import Err

if TYPE_CHECKING:
    from datetime import timedelta

    from aegis.component.planning.artifact import Component
    from aegis.isolation.parent.backend import Isolated
    from aegis.policy import Isolation, KeyValueCapability, NetworkCapability

__all__ = ["Aegis", "Builder", "ended", "entry_point", "is_program", "prepare", "require_entry", "run"]


class Aegis:
    """A runtime under one policy. It may be shared by threads; its sandboxes are independent.

    ``cache`` keeps compiled code on disk: ``True`` in the user's cache folder, a path there, ``False``
    nowhere. ``subscribers`` get the events of every sandbox. ``pooled`` prepares memory for many
    short-lived sandboxes; a program that makes one is better off without. ``exact_memory`` counts also what
    cannot be seen from outside, the memories of components above all, so that their peak is true and a growth
    that was refused is known as the reason of a trap; whoever observes or measures a sandbox has that anyhow.
    It costs the pool, a copy of the component's data for each sandbox, and on the main thread a switch to
    another thread for each call. The limit holds exactly either way.
    """

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        cache: bool | str | os.PathLike[str] = True,
        subscribers: Sequence[Subscriber] = (),
        pooled: bool = True,
        exact_memory: bool = False,
        **keywords: Any,
    ) -> None:
        if policy is not None and keywords:
            raise TypeError(f"give a policy or keywords, not both: {', '.join(keywords)}")
        self.policy = policy if policy is not None else Policy.from_keywords(**keywords)
        self._cache = None if cache is False else Cache(None if cache is True else os.fspath(cache))
        limits = self.policy.limits
        plain = EngineConfig.from_limits(limits)
        config = EngineConfig.from_limits(limits, pooled=True) if pooled else plain
        self._tier = InProcess(self.policy, config, plain, subscribers, exact=exact_memory)
        if self.policy.filesystem.paths:
            from aegis.sandbox.protected_paths import protected_from_grants

            self._tier.protected = protected_from_grants(self._cache)
        self._isolated: Isolated | None = None
        if self.policy.isolation is not None:
            self._workers()

    @classmethod
    def builder(cls) -> Builder:
        """Return a builder that grants nothing yet, with every limit at its default."""
        return Builder()

    @classmethod
    def from_config(cls, path: str | os.PathLike[str], **options: Any) -> Aegis:
        """Return a runtime under the policy file at ``path``; ``options`` as for the class."""
        from aegis.policy import load_policy

        return cls(load_policy(os.fspath(path)), **options)

    # -- artifacts -----------------------------------------------------------------------------

    def load_file(self, path: str | os.PathLike[str]) -> Module | Component:
        """Compile the module in a file, binary or ``.wat`` text.

        Raise :class:`~aegis.errors.ArtifactNotFound` or :class:`~aegis.errors.ArtifactError`.
        """
        return self._compile(read_file(path, self.policy.limits), printable(os.fspath(path)))

    def load(
        self,
        data: bytes | bytearray | memoryview,
        name: str = "the module",
        *,
        check: Callable[[Module | Component], None] | None = None,
    ) -> Module | Component:
        """Compile a binary module, called ``name`` in errors. Text is not taken for one (F38).

        ``check`` is called before the module is compiled, and refuses it by raising; of a component it sees the
        anatomy only, for types are known once it is compiled.

        Compiling cannot be interrupted: ``timeout`` does not hold for it. What it costs is bounded by the limits
        ``module_size``, ``functions``, ``function_size``, ``locals``, ``nesting`` and ``complexity``, which are
        checked first; code from the cache was checked when it was compiled, under the same limits.

        Raise :class:`~aegis.errors.ArtifactError`. For text there is :meth:`load_wat`.
        """
        if isinstance(data, str):
            raise ArtifactError("a module is bytes; load text with load_wat()")
        return self._compile(bytes(data), printable(name), check)

    def load_wat(self, text: str) -> Module | Component:
        """Compile a module from WebAssembly text."""
        return self._compile(text_to_binary(text), "the module")

    def _compile(
        self, data: bytes, what: str, check: Callable[[Module | Component], None] | None = None
    ) -> Module | Component:
        artifact = admit_artifact(data, self.policy.limits, self._cache, what)
        if check is not None:
            check(artifact)
        if self.policy.isolation is None:
            artifact.prepare(self._tier.engine_of, what)
        else:
            self._workers().prepare(artifact, what)
        return artifact

    def close(self) -> None:
        """End the workers that wait for isolated sandboxes; a runtime without any has nothing to close."""
        if self._isolated is not None:
            self._isolated.pool.close()
            self._isolated = None

    def __enter__(self) -> Aegis:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _workers(self) -> Isolated:
        """Return the tier of isolated sandboxes; its workers are made ready now."""
        if self._isolated is None:
            from aegis.isolation.parent.backend import Isolated
            from aegis.policy import Isolation

            options = self.policy.isolation or Isolation()
            tier = self._tier
            self._isolated = Isolated(self.policy, tier.plain, options, self._cache, tier.subscribers, exact=tier.exact)
            self._isolated.protected = tier.protected
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
        faults: Faults | None = None,
        isolate: bool | None = None,
    ) -> Sandbox:
        """Return a new sandbox, with ``module`` instantiated in it if one is given.

        ``imports`` are a module's host functions by module and name, or a component's interfaces with the objects that
        implement them. With ``trap_missing`` a function that nothing provides traps when it is called; memories,
        globals and tables cannot be left out. ``args`` are the program's arguments (its name first), ``stdio`` replaces
        the policy's, ``measured`` has host time counted although nobody subscribed, and the memory of components (see
        ``exact_memory``). ``denied`` is told of each request that the policy denied, cheaper than an event.
        ``faults`` is asked instead of each host function, the host's own included, as ``faults(module, name, type,
        answer)``: it returns ``answer()``, or raises or returns something else of that type. It is for tests of how a
        guest bears its host, and in process only.
        ``isolate`` puts the guest into a worker process, or keeps it here, whatever the policy says.
        Raise as :meth:`Sandbox.load` does.
        """
        isolated = self.policy.isolation is not None if isolate is None else isolate
        if isolated and faults is not None:
            raise PolicyError("faults of the host are injected in process: give isolate=False, or no faults")
        return Sandbox(
            self._workers() if isolated else self._tier,
            module,
            imports=imports,
            args=args,
            subscribers=subscribers,
            stdio=stdio,
            measured=measured,
            denied=denied,
            trap_missing=trap_missing,
            faults=faults,
        )


class Builder:
    """A policy in the making. Immutable: every method returns a new builder."""

    __slots__ = ("_options", "_policy")

    def __init__(self, policy: Policy | None = None, options: Mapping[str, Any] | None = None) -> None:
        self._policy = policy or Policy()
        self._options = dict(options or {})

    def _with(self, **changes: Any) -> Builder:
        return Builder(replace(self._policy, **changes), self._options)

    def with_limits(self, **limits: object) -> Builder:
        """Set limits by name, such as ``stack="256KiB"``; see :class:`aegis.Limits`."""
        return self._with(limits=self._policy.limits.with_(**limits))

    def with_memory_limit(self, size: int | str | None) -> Builder:
        """Set the bytes of all linear memories together."""
        return self.with_limits(memory=size)

    def with_fuel_limit(self, fuel: int | str | None) -> Builder:
        """Set the units of guest work for one call."""
        return self.with_limits(fuel=fuel)

    def with_timeout(self, timeout: float | str | timedelta | None) -> Builder:
        """Set the wall-clock time for one call: seconds, a ``datetime.timedelta``, or text such as ``"30s"``."""
        return self.with_limits(timeout=timeout)

    def with_filesystem(self, capability: FilesystemCapability) -> Builder:
        """Grant files and directories, beside those granted before."""
        return self._with(filesystem=self._policy.filesystem + capability)

    def with_network(self, capability: NetworkCapability) -> Builder:
        """Set the network patterns. Core modules have no network; components will use them."""
        return self._with(network=capability)

    def with_environment(self, capability: EnvironmentCapability) -> Builder:
        """Set the environment variables that the guest sees."""
        return self._with(environment=capability)

    def with_clock(self, capability: ClockCapability) -> Builder:
        """Set which clock the guest reads."""
        return self._with(clock=capability)

    def with_random(self, capability: RandomCapability) -> Builder:
        """Set where the guest's random bytes come from."""
        return self._with(random=capability)

    def with_logging(self, capability: LoggingCapability) -> Builder:
        """Grant the guest's log."""
        return self._with(logging=capability)

    def with_stdio(self, capability: StdioCapability) -> Builder:
        """Set what standard input, output and error are."""
        return self._with(stdio=capability)

    def with_config(self, capability: ConfigCapability) -> Builder:
        """Set what a component finds in ``wasi:config/store``."""
        return self._with(config=capability)

    def with_keyvalue(self, capability: KeyValueCapability) -> Builder:
        """Grant buckets of ``wasi:keyvalue``."""
        return self._with(keyvalue=capability)

    def with_imports(self, providers: Mapping[str, str]) -> Builder:
        """Name the Python objects (``module:name``) that provide interfaces to every sandbox."""
        return self._with(imports=(*self._policy.imports, *providers.items()))

    def with_isolation(self, isolation: Isolation | str | bool = True, **options: Any) -> Builder:
        """Run guests in worker processes; options are those of :class:`aegis.Isolation`, or ``"strict"``."""
        return self._with(isolation=options or isolation)

    def with_subscriber(self, subscriber: Subscriber) -> Builder:
        """Send every sandbox's events to ``subscriber`` too."""
        if not callable(subscriber):
            raise PolicyError(
                f"a subscriber is called with each event, and {type(subscriber).__name__} cannot be called"
            )
        return Builder(
            self._policy, {**self._options, "subscribers": (*self._options.get("subscribers", ()), subscriber)}
        )

    def with_event_subscriber(self, subscriber: Subscriber) -> Builder:
        """Send every sandbox's events to ``subscriber`` too: another name of :meth:`with_subscriber`."""
        return self.with_subscriber(subscriber)

    def with_async_support(self, enabled: bool = True) -> Builder:
        """Change nothing: every runtime has :meth:`aegis.Sandbox.acall` and asynchronous host functions.

        Raise :class:`~aegis.errors.PolicyError` for ``False``, which cannot be had.
        """
        if enabled is not True:
            raise PolicyError("async support is always on; leave with_async_support out")
        return self

    def with_cache(self, cache: bool | str | os.PathLike[str]) -> Builder:
        """Keep compiled code there, or nowhere with ``False``."""
        return Builder(self._policy, {**self._options, "cache": cache})

    def build(self) -> Aegis:
        """Return the runtime."""
        return Aegis(self._policy, **self._options)


def run(
    path: str | os.PathLike[str],
    *call: Any,
    args: Sequence[str] = (),
    policy: Policy | None = None,
    function: str | None = None,
    **keywords: Any,
) -> Outcome:
    """Run one module or component and return how it ended: the one-liner.

    ``args`` are the program's arguments, without its name. ``function`` is the export to call, with
    ``call`` as its arguments; without it the artifact is a program (``_start``, or ``wasi:cli/run``), or has a
    ``main``.
    ``keywords`` are those of :meth:`aegis.Policy.from_keywords`.
    """
    runtime = Aegis(policy, pooled=False, exact_memory=True, **keywords)
    data = read_file(path, runtime.policy.limits)
    module = runtime.load(data, os.fspath(path), check=lambda artifact: require_entry(artifact, function))
    name = os.path.basename(os.fspath(path))
    try:
        with runtime.sandbox(module, args=(name, *args)) as sandbox:
            chosen = function or entry_point(module)
            prepare(sandbox, module, chosen)
            return ended(chosen, sandbox.run(chosen, *call))
    except GuestError as error:
        return Outcome.from_error(error)


def prepare(sandbox: Sandbox, artifact: Module | Component, function: str) -> None:
    """Call ``_initialize`` first where a module is a WASI reactor, as its toolchain expects."""
    if artifact.kind == "module" and function not in ("_start", "_initialize"):
        assert isinstance(artifact, Module)
        if artifact.export("_initialize") is not None:
            sandbox.call("_initialize")


def is_program(function: str) -> bool:
    """Tell whether an export is how a whole program runs: it takes no arguments but the program's own."""
    return function == "_start" or function.startswith(f"{_COMMAND}@") or function == f"{_COMMAND}#run"


_COMMAND = "wasi:cli/run"


def ended(function: str, outcome: Outcome) -> Outcome:
    """Return the outcome of a program: a ``run`` of ``wasi:cli`` that ends with its error exits with code 1."""
    if is_program(function) and isinstance(outcome.value, Err):
        return replace(outcome, status="exited", exit_code=1, value=None, error=GuestExit(1))
    return outcome


def entry_point(artifact: Module | Component) -> str:
    """Return the export that a program starts with: ``_start``, ``wasi:cli/run``, ``main``, or its only function."""
    return _entry_among(_callables(artifact), artifact.kind)


def _entry_among(functions: list[str], kind: str) -> str:
    for name in functions:
        if name == "_start" or (name.startswith(f"{_COMMAND}@") and name.endswith("#run")):
            return name
    if "main" in functions:
        return "main"
    if len(functions) == 1:
        return functions[0]
    shown = ", ".join(printable(n, 80) for n in functions[:8]) or "nothing callable"
    start, how = ("_start", "-e") if kind == "module" else (_COMMAND, "--invoke")
    raise ExportNotFound(
        f"the {kind} has no {start} to run; name a function with {how}: it exports {shown}",
        name=start, near=near(start, functions),
    )  # fmt: skip


def _callables(artifact: Module | Component) -> list[str]:
    if isinstance(artifact, Module):
        return [e.name for e in artifact.exports if e.kind == "func"]
    return artifact.callables()


def require_entry(artifact: Module | Component, function: str | None = None) -> None:
    """Raise ``ExportNotFound`` for an artifact whose bytes tell that it does not export ``function``.

    Without one, it must be a program. This needs no compiled code. An export that is described with less than it has
    may pass and still lack the function.
    """
    if isinstance(artifact, Module):
        callable_export(artifact, entry_point(artifact) if function is None else function)
        return
    exports = artifact.program.exports
    members = {name: tuple(item) for name, item in exports.items() if isinstance(item, Mapping)}
    functions = [name for name in exports if name not in members]
    if function is not None and (function in functions or _may_have(members, function)):
        return
    for name, known in members.items():
        functions += [f"{name}#{member}" for member in known]
    if function is None:
        _entry_among(functions, artifact.kind)
        return
    from aegis.component.planning.world import no_such_function  # costs start-up time that only this error needs

    raise no_such_function(functions, function)


def _may_have(members: Mapping[str, tuple[str, ...]], function: str) -> bool:
    """Tell whether an interface may have the function: one that is named, or any where none is."""
    from aegis.wit.match import unversioned  # costs start-up time that only components need

    owner, mark, name = function.rpartition("#")
    meant = [known for full, known in members.items() if not mark or owner in (full, unversioned(full))]
    return any(known is None or name in known for known in meant)
