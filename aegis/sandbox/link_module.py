"""Who provides what a module imports: the embedder's functions first, then the host's, or nobody.

Every import that nobody provides is told at once, each with what would provide it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from aegis.engine import Module
from aegis.engine.call.core_values import scalar_types
from aegis.engine.store.missing import MissingFunction
from aegis.errors import LinkError, MissingImport
from aegis.sandbox.guest_state import Caller
from aegis.sandbox.host_functions import prepared
from aegis.support.lean import TYPE_CHECKING, Any
from aegis.text import count, literal, printable
from aegis.values import FuncType, HostFunction
from aegis.wasm.binary import Import, ModuleInfo

if TYPE_CHECKING:
    from aegis.engine.call.door import Door
    from aegis.host import Wanted
    from aegis.sandbox.run import Run

__all__ = [
    "HOST_MODULES", "Faults", "Functions", "collect", "faulty", "link", "linked", "require_imports",
    "served_by_host", "unprovided", "wants_host", "with_caller",
]  # fmt: skip

HOST_MODULES = frozenset({"wasi_snapshot_preview1", "aegis"})
"""The import modules that Aegis serves itself."""

Functions = dict[tuple[str, str], Callable[..., Any]]
"""The embedder's functions by import module and name."""

_MARK = "__aegis_with_caller__"


def with_caller(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a host function that wants a :class:`~aegis.Caller` before the guest's arguments."""
    setattr(function, _MARK, True)
    return function


def collect(imports: Mapping[str, Mapping[str, Callable[..., Any]]] | None) -> Functions:
    """Return the embedder's ``imports`` by module and name; raise ``LinkError`` for what is no function."""
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
        raise LinkError(f"an import's module and name are strings, not {module!r} and {name!r}")
    if module in HOST_MODULES:
        raise LinkError(
            f"{module}.{name}: Aegis serves the module {module!r} itself; a function of yours may not replace it"
        )
    if not callable(function):
        raise LinkError(f"{module}.{name} is a {type(function).__name__}, not a function")
    return function


def wants_host(module: Module) -> dict[tuple[str, str], FuncType]:
    """Return the functions that ``module`` asks of Aegis itself."""
    return {
        (i.module, i.name): i.type
        for i in module.info.imports
        if i.module in HOST_MODULES and isinstance(i.type, FuncType)
    }


def served_by_host(module: Module) -> Wanted | None:
    """Return what the module imports where Aegis serves it all, otherwise ``None``; found out once."""
    if module.served is None:
        from aegis.host import wanted_of

        imports = module.info.imports
        module.served = False if unprovided(imports) else wanted_of(tuple((i.module, i.name) for i in imports))
    found: Wanted | None = module.served or None
    return found


Faults = Callable[[str, str, Any, Callable[[], Any]], Any]
"""Answers host calls in the place of their functions: given module or interface, name, type, and what would answer."""


def faulty(functions: Sequence[HostFunction], faults: Faults) -> list[HostFunction]:
    """Return host functions that are asked through ``faults``."""

    def asked(function: HostFunction) -> Callable[..., Any]:
        return lambda *values: faults(function.module, function.name, function.type, partial(function.call, *values))

    return [function._replace(call=asked(function)) for function in functions]


def linked(run: Run, module: Module, memory: Any) -> Any:
    """Return the functions of a module's imports in one run: a list in their order, or a mapping by their numbers."""
    if not run.imports and not run.functions and run.faults is None:
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
    """Return a function for each import of ``module``, in its order.

    With ``trap_missing`` a function that nothing provides traps when it is called.
    Raise :class:`~aegis.errors.LinkError` listing every other import that has none.
    """
    offered = {(f.module, f.name): f for f in host}
    linked: list[HostFunction] = []
    missing: list[MissingImport] = []
    for wanted in module.info.imports:
        found = _find(wanted, own, offered, caller, door)
        if isinstance(found, str) and trap_missing and _can_trap(wanted):
            found = _missing(wanted)
        if isinstance(found, str):
            missing.append(MissingImport(printable(wanted.module), printable(wanted.name), str(wanted.type), found))
        else:
            linked.append(found)
    if missing:
        raise _unlinked(missing)
    return linked


def _can_trap(wanted: Import) -> bool:
    """Tell whether a function can stand for an import: the engine makes those of numbers only."""
    signature = wanted.type
    return isinstance(signature, FuncType) and {*signature.params, *signature.results} <= set(scalar_types)


def _missing(wanted: Import) -> HostFunction:
    assert isinstance(wanted.type, FuncType)
    trap = MissingFunction(f"{wanted.module}.{wanted.name}")
    return HostFunction(module=wanted.module, name=wanted.name, type=wanted.type, call=trap)


def _find(
    wanted: Import, own: Functions, offered: Mapping[tuple[str, str], HostFunction], caller: Caller, door: Door
) -> HostFunction | str:
    """Return the function for one import, or the remedy for its lack."""
    signature = wanted.type
    if not isinstance(signature, FuncType):
        return f"Aegis provides functions only; build the module with a {wanted.kind} of its own"
    odd = next((t for t in (*signature.params, *signature.results) if t not in scalar_types), None)
    if odd is not None:
        return f"a function with {odd} cannot be provided from Python; i32, i64, f32 and f64 can"
    key = (wanted.module, wanted.name)
    if key in own:
        function = own[key]
        if getattr(function, _MARK, False):
            function = _bound(function, caller)
        function = prepared(function, f"{wanted.module}.{wanted.name}", door)
        return HostFunction(module=wanted.module, name=wanted.name, type=signature, call=function)
    if key in offered:
        served = offered[key]
        return served if served.type == signature else f"its type is {served.type}; rebuild the module against it"
    return _remedy(wanted)


def unprovided(imports: Sequence[Import]) -> list[MissingImport]:
    """Return those of ``imports`` that Aegis does not serve by itself, each with its remedy."""
    from aegis.host import offers

    missing = []
    for wanted in imports:
        signature = wanted.type
        if not isinstance(signature, FuncType):
            remedy = f"Aegis provides functions only; build the module with a {wanted.kind} of its own"
        elif offers(wanted.module, wanted.name) == signature:
            continue
        else:
            served = offers(wanted.module, wanted.name)
            remedy = _remedy(wanted) if served is None else f"its type is {served}; rebuild the module against it"
        missing.append(MissingImport(printable(wanted.module), printable(wanted.name), str(signature), remedy))
    return missing


def require_imports(info: ModuleInfo, *, trap_missing: bool = False) -> None:
    """Raise ``LinkError`` for imports that Aegis does not serve, of a module that no embedder provides for."""
    left = [wanted for wanted in info.imports if not (trap_missing and _can_trap(wanted))]
    missing = unprovided(left)
    if missing:
        raise _unlinked(missing)


def _bound(function: Callable[..., Any], caller: Caller) -> Callable[..., Any]:
    from functools import partial

    return partial(function, caller)


_MOST_CHARACTERS = 200
"""Characters of the names in a remedy; one that was cut would be of another import."""


def _remedy(wanted: Import) -> str:
    module, name = wanted.module, wanted.name
    if module == "wasi_unstable":
        return "this is the snapshot that WASI preview 1 replaced; rebuild for the target wasm32-wasip1"
    if module in HOST_MODULES:
        return f"there is no such function in {module}"
    if module.startswith("wasi:"):
        return "this is an import of WASI 0.2, which components have; build a component, or for wasm32-wasip1"
    given = "with imports="
    if len(module) + len(name) <= _MOST_CHARACTERS:
        given = f"imports={{{literal(module)}: {{{literal(name)}: function}}}}"
    return f"provide it from Python: {given}; or --trap-missing (trap_missing=True) has it trap when called"


def _unlinked(missing: list[MissingImport]) -> LinkError:
    shown = [f"{m.module}.{m.name} {m.type}: {m.remedy}" for m in missing[:20]]
    more = f"; and {len(missing) - 20} more" if len(missing) > 20 else ""
    lead = count(len(missing), "import")
    return LinkError(f"nothing provides {lead}: {'; '.join(shown)}{more}", missing=missing)
