"""The tables and keys of a policy file: the reader admits no others, and the reference lists these."""

from __future__ import annotations

from collections.abc import Mapping

from aegis.limits import LIMIT_NAMES
from aegis.policy.capabilities import CAPABILITIES, declaration
from aegis.policy.declaration import Key
from aegis.policy.isolation import FIELDS

__all__ = ["all_keys", "keys"]


_QUANTITIES = {"memory_bytes": "memory", "timeout_seconds": "timeout"}
_ISOLATION = {
    "strict": Key("true or false", "Refuse to run where a layer of the confinement is missing."),
    "workers": Key("number", "Workers that wait ready."),
    "recycle": Key("number", "Further sandboxes of the same artifact that a worker may serve."),
    "without": Key("list of layers", "Layers of the confinement to leave out, such as `namespaces`."),
    "compile_time": Key("duration or `none`", "Time that compiling may take."),
    "compile_memory": Key("size or `none`", "Memory that compiling may take."),
    "overhead": Key("size", "Memory of a worker besides its guest's."),
    "grace": Key("duration", "Time that a worker has to end a call at its deadline, before Aegis kills it."),
}

_TABLES: Mapping[str, Mapping[str, Key]] = {
    "": {
        "include": Key("list of files", "Policy files that merge before this one; relative to its folder."),
        "limits": Key("table", "Limits of each sandbox."),
        "capabilities": Key("table of tables", "Grants of each sandbox."),
        "imports": Key("table of tables", "Python objects that provide interfaces, by interface."),
        "isolation": Key("table", "A worker process for each sandbox; the table alone switches it on."),
        "engine": Key("table", "WebAssembly proposals beyond the default."),
    },
    "limits": {
        **{name: Key("quantity or `none`", f"The limit `{name}`; `none` lifts it.") for name in LIMIT_NAMES},
        **{key: Key("number", f"`{name}` as a plain number.") for key, name in _QUANTITIES.items()},
    },
    "engine": {"proposals": Key("list of names", "Proposals to enable, such as `exceptions`.")},
    "imports": {"provider": Key("text", "A Python object, `module:name`, that implements the interface.")},
    "isolation": {
        "enabled": Key("true or false", "Whether the table counts; true by default."),
        **{name: _ISOLATION[name] for name in FIELDS},
    },
}
"""The keys of each table that is no capability's, by its dotted name; the top level is the empty name. Keys of
``imports`` are interfaces, and each of their tables has the keys here."""


def keys(table: str) -> Mapping[str, Key]:
    """Return the keys of a table by its dotted name; the top level is the empty name."""
    return _TABLES[table] if table in _TABLES else all_keys()[table]


def all_keys() -> dict[str, Mapping[str, Key]]:
    """Return the keys of every table by its dotted name, those of capabilities as they are declared."""
    declared = {row.name: declaration(row.name) for row in CAPABILITIES}
    stated = {name: one for name, one in declared.items() if one.read is not None}
    found: dict[str, Mapping[str, Key]] = {name: _TABLES[name] for name in ("", "limits")}
    found["capabilities"] = {name: Key("table", one.summary) for name, one in stated.items()}
    for name, one in stated.items():
        for inner, known in one.tables().items():
            found[".".join(("capabilities", name, *filter(None, [inner])))] = known
    return {**found, **_TABLES}
