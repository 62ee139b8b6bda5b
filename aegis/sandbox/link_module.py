"""The functions that serve the imports of a core module: the embedder's first, then those of Aegis.

One :class:`~aegis.errors.LinkError` lists all imports without a function, each with its remedy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from aegis.engine import Module
from aegis.engine.call.core_values import scalar_types
from aegis.errors import LinkError, MissingImport
from aegis.sandbox.guest_state import Caller
from aegis.support.lean import TYPE_CHECKING, Any
from aegis.text import literal, printable
from aegis.values import FuncType, HostFunction
from aegis.wasm.binary import Import, ModuleInfo

if TYPE_CHECKING:
    from aegis.engine.call.door import Door
    from aegis.host import Wanted
    from aegis.sandbox.backend import Run

__all__ = [
    "HOST_MODULES", "Functions", "collect", "link", "linked", "require_imports", "served_by_host", "unprovided",
    "wants_host", "with_caller",
]  # fmt: skip

HOST_MODULES = frozenset({"wasi_snapshot_preview1", "aegis"})
"""The import modules that Aegis serves itself."""

Functions = dict[tuple[str, str], Callable[..., Any]]
"""The embedder's functions by import module and name."""

_MARK = "__aegis_with_caller__"


def with_caller(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a host function that takes a :class:`aegis.Caller`, the calling guest, before the guest's arguments.

    Return the function itself, so that this can be used as a decorator.
    """
    setattr(function, _MARK, True)
    return function


def collect(imports: Mapping[str, Mapping[str, Callable[..., Any]]] | None) -> Functions:
    """Return the embedder's ``imports`` by module and name; raise ``LinkError`` for entries that are not functions."""
    found: Functions = {}
    if imports is not None and not isinstance(imports, Mapping):
        raise LinkError('imports must map modules to functions, such as {"env": {"log": print}}')
    for module, members in (imports or {}).items():
        if not isinstance(members, Mapping):
            raise LinkError(f'imports[{module!r}] must map names to functions, such as {{"log": print}}')
        for name, function in members.items():
            found[module, name] = checked(module, name, function)
    return found


def checked(module: str, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``function`` if it can serve ``module.name``; raise ``LinkError`` otherwise."""
    if not isinstance(module, str) or not isinstance(name, str):
        raise LinkError(f"module and name of an import must be strings, not {module!r} and {name!r}")
    if module in HOST_MODULES:
        raise LinkError(f"{module}.{name}: Aegis serves the module {module!r} itself: no other function can replace it")
    if not callable(function):
        raise LinkError(f"{module}.{name} is a {type(function).__name__}, not a function")
    return function


def wants_host(module: Module) -> dict[tuple[str, str], FuncType]:
    """Return the functions that ``module`` imports from the modules of Aegis, with their types."""
    return {
        (i.module, i.name): i.type
        for i in module.info.imports
        if i.module in HOST_MODULES and isinstance(i.type, FuncType)
    }


def served_by_host(module: Module) -> Wanted | None:
    """Return the imports of a module that imports nothing but functions of Aegis, ``None`` for others.

    The answer is kept in ``module.served``.
    """
    if module.served is None:
        from aegis.host import wanted_of

        imports = module.info.imports
        module.served = False if unprovided(imports) else wanted_of(tuple((i.module, i.name) for i in imports))
    found: Wanted | None = module.served or None
    return found


def linked(run: Run, module: Module, memory: Any) -> Any:
    """Return the functions that serve a module's imports in one run: a list in their order, or a mapping by number."""
    if not run.imports and not run.functions:
        served = run.backend.served(run, module, memory)
        if served is not None:
            return served
    own = {**collect(run.imports), **(run.functions or {})}
    offered = run.backend.offered(run, module, memory)
    return link(module, own, offered, Caller(run), run.door, trap_missing=run.trap_missing)


def link(
    module: Module, own: Functions, host: Sequence[HostFunction], caller: Caller, door: Door,
    *, trap_missing: bool = False,
) -> list[HostFunction]:  # fmt: skip
    """Return a function for each import of ``module``, in their order.

    With ``trap_missing``, an import without a function gets one that traps. Raise :class:`~aegis.errors.LinkError` with
    all other imports that have none.
    """
    offered = {(f.module, f.name): f for f in host}
    linked: list[HostFunction] = []
    missing: list[MissingImport] = []
    for wanted in module.info.imports:
        found = _find(wanted, own, offered, caller, door)
        if isinstance(found, str) and trap_missing and _can_trap(wanted):
            found = _trapping_function(wanted)
        if isinstance(found, str):
            missing.append(MissingImport(printable(wanted.module), printable(wanted.name), str(wanted.type), found))
        else:
            linked.append(found)
    if missing:
        raise _link_error(missing)
    return linked


def _can_trap(wanted: Import) -> bool:
    """Return whether a trapping function can serve an import: the engine makes functions of numbers alone."""
    signature = wanted.type
    return isinstance(signature, FuncType) and {*signature.params, *signature.results} <= set(scalar_types)


def _trapping_function(wanted: Import) -> HostFunction:
    """Return a host function that traps with the name of the import."""
    from aegis.engine.store.missing import MissingFunction

    assert isinstance(wanted.type, FuncType)
    trap = MissingFunction(f"{wanted.module}.{wanted.name}")
    return HostFunction(module=wanted.module, name=wanted.name, type=wanted.type, call=trap)


def _find(
    wanted: Import, own: Functions, offered: Mapping[tuple[str, str], HostFunction], caller: Caller, door: Door
) -> HostFunction | str:
    """Return the function that serves one import; without one, return the remedy as text."""
    signature = wanted.type
    if not isinstance(signature, FuncType):
        return f"Aegis provides functions alone: define the {wanted.kind} in the module"
    unsupported = next((t for t in (*signature.params, *signature.results) if t not in scalar_types), None)
    if unsupported is not None:
        return f"Python cannot provide a function with {unsupported}: use i32, i64, f32 and f64"
    key = (wanted.module, wanted.name)
    if key in own:
        function = own[key]
        if getattr(function, _MARK, False):
            function = partial(function, caller)
        from aegis.sandbox.host_function_adapters import adapted

        function = adapted(function, f"{wanted.module}.{wanted.name}", door)
        return HostFunction(module=wanted.module, name=wanted.name, type=signature, call=function)
    if key in offered:
        served = offered[key]
        return served if served.type == signature else f"its type is {served.type}: rebuild the module with that type"
    return _remedy(wanted)


def unprovided(imports: Sequence[Import], *, trap_missing: bool = False) -> list[MissingImport]:
    """Return those of ``imports`` that Aegis does not serve itself, each with its remedy.

    With ``trap_missing``, leave out those that a trapping function can serve.
    """
    from aegis.host import offers

    missing = []
    for wanted in imports:
        if trap_missing and _can_trap(wanted):
            continue
        signature = wanted.type
        if not isinstance(signature, FuncType):
            remedy = f"Aegis provides functions alone: define the {wanted.kind} in the module"
        elif offers(wanted.module, wanted.name) == signature:
            continue
        else:
            served = offers(wanted.module, wanted.name)
            remedy = _remedy(wanted) if served is None else f"its type is {served}: rebuild the module with that type"
        missing.append(MissingImport(printable(wanted.module), printable(wanted.name), str(signature), remedy))
    return missing


def require_imports(info: ModuleInfo, *, trap_missing: bool = False) -> None:
    """Raise ``LinkError`` for imports that Aegis does not serve itself; used where no embedder provides functions."""
    missing = unprovided(info.imports, trap_missing=trap_missing)
    if missing:
        raise _link_error(missing)


_MAX_NAME_CHARACTERS = 200
"""Characters of the longest names that a remedy quotes. A truncated name would be that of another import."""


def _remedy(wanted: Import) -> str:
    module, name = wanted.module, wanted.name
    if module == "wasi_unstable":
        return "this is the snapshot before WASI preview 1: rebuild for the target wasm32-wasip1"
    if module in HOST_MODULES:
        return f"there is no such function in {module}"
    if module.startswith("wasi:"):
        return "only components import WASI 0.2: build a component, or build for the target wasm32-wasip1"
    given = "with imports="
    if len(module) + len(name) <= _MAX_NAME_CHARACTERS:
        given = f"imports={{{literal(module)}: {{{literal(name)}: function}}}}"
    return f"provide it from Python: {given}; or --trap-missing (trap_missing=True) makes it trap when called"


def _link_error(missing: list[MissingImport]) -> LinkError:
    from aegis.sandbox.missing_imports import missing_text

    return LinkError(missing_text(missing), missing=missing)
