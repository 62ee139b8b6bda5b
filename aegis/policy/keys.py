"""The tables and keys of a policy file: the reader admits no others, and the reference lists these."""

from __future__ import annotations

from collections.abc import Mapping

from aegis.limits import LIMIT_NAMES
from aegis.policy.isolation import FIELDS
from aegis.support.lean import NamedTuple

__all__ = ["KEYS", "Key"]


class Key(NamedTuple):
    """A key of a policy file: the form of its value, and what it sets."""

    form: str
    meaning: str


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

KEYS: Mapping[str, Mapping[str, Key]] = {
    "": {
        "limits": Key("table", "Limits of each sandbox."),
        "capabilities": Key("table of tables", "Grants of each sandbox."),
        "imports": Key("table of tables", "Python objects that provide interfaces, by interface."),
        "isolation": Key("table", "A worker process for each sandbox; the table alone switches it on."),
    },
    "limits": {
        **{name: Key("quantity or `none`", f"The limit `{name}`; `none` lifts it.") for name in LIMIT_NAMES},
        **{key: Key("number", f"`{name}` as a plain number.") for key, name in _QUANTITIES.items()},
    },
    "capabilities": {
        "filesystem": Key("table", "Files and directories."),
        "network": Key("table", "Patterns that a guest may reach or listen at."),
        "environment": Key("table", "Environment variables."),
        "clock": Key("table", "The clock that a guest reads."),
        "random": Key("table", "The source of a guest's random bytes."),
        "logging": Key("table", "The guest's log."),
        "config": Key("table", "Values of `wasi:config/store`."),
        "keyvalue": Key("table", "Buckets of `wasi:keyvalue`."),
    },
    "capabilities.filesystem": {
        "paths": Key("list of paths or tables", "One grant each; a path alone is for reading.")
    },
    "capabilities.filesystem.paths": {
        "path": Key("text", "The host's path, or `HOST::GUEST`; a relative one starts at the file's folder."),
        "guest": Key("text", "The path that the guest sees; by default `path` as it is written."),
        "read": Key("true or false", "Whether the guest may read; true by default."),
        "write": Key("true or false", "Whether the guest may write; false by default."),
    },
    "capabilities.network": {
        "allow": Key("list of patterns", "Patterns that the guest may reach."),
        "deny": Key("list of patterns", "Patterns that it may not reach; deny wins over allow."),
        "listen": Key("list of patterns", "Addresses at which the guest may listen."),
    },
    "capabilities.environment": {
        "set": Key("table of text", "Variables and their values."),
        "pass": Key("list of names", "Variables of the host to pass on; a variable that the host lacks is left out."),
    },
    "capabilities.clock": {"mode": Key("text", "`virtual`, `system`, `coarse:1ms`, `fixed:INSTANT` or `deny`.")},
    "capabilities.random": {"mode": Key("text", "`seed:NUMBER`, `system` or `deny`.")},
    "capabilities.logging": {
        "enabled": Key("true or false", "Whether Aegis keeps the guest's log; false by default."),
        "min_level": Key("text", "The least level that Aegis keeps; `info` by default."),
    },
    "capabilities.config": {"set": Key("table of text", "Keys and their values.")},
    "capabilities.keyvalue": {
        "buckets": Key("table of text", "The store of each bucket: `memory`, or `sqlite:PATH`."),
        "max_keys": Key("number or `none`", "Keys in one bucket."),
        "max_bytes": Key("size or `none`", "Bytes of all keys and values in one bucket."),
        "max_value_bytes": Key("size or `none`", "Bytes of one value."),
        "max_key_bytes": Key("size or `none`", "Bytes of one key."),
    },
    "imports": {"provider": Key("text", "A Python object, `module:name`, that implements the interface.")},
    "isolation": {
        "enabled": Key("true or false", "Whether the table counts; true by default."),
        **{name: _ISOLATION[name] for name in FIELDS},
    },
}
"""The keys of each table by its dotted name; the top level is the empty name. Keys of ``imports`` are interfaces, and
each of their tables has the keys here."""
