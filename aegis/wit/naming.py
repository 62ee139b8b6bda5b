"""Convert WIT's kebab-case names to Python names, for generated bindings and for dynamic use.

========================  =====================================  ==========================
WIT                       Python                                 example
========================  =====================================  ==========================
function, field, param    snake_case                             ``to-debug-string`` → ``to_debug_string``
record, resource, …       PascalCase                             ``io-error`` → ``IoError``
case of a variant         the variant's name, then the case's    ``filter.by-tag`` → ``FilterByTag``
case of an enum, a flag   UPPER_CASE                             ``not-permitted`` → ``NOT_PERMITTED``
========================  =====================================  ==========================

A name that Python reserves, or that would hide a name in annotations, gets a trailing underscore: ``class`` →
``class_``, ``list`` → ``list_``. So does ``drop``, which is a method of every handle.
"""

from __future__ import annotations

import keyword

from aegis.support.bounded_cache import memoised

__all__ = ["constant", "pascal", "snake"]

_MAX_CACHED_CHARACTERS = 1 << 20
"""Characters of names that each function caches, plus 100 for each entry."""
_TAKEN = frozenset(
    {
        "bool",
        "bytes",
        "dict",
        "drop",
        "float",
        "int",
        "list",
        "mro",
        "none",
        "object",
        "print",
        "property",
        "self",
        "set",
    }
    | {"str", "super", "tuple", "type"}
)
_TYPES = frozenset(
    {"Any", "Borrow", "Enum", "Err", "False", "Flag", "Function", "Interface", "List", "None", "Ok", "Option", "Own"}
    | {"Protocol", "Record", "Resource", "ResourceHandle", "Result", "Sandbox", "Some", "True", "Tuple", "Variant"}
    | {"BitFlags", "Flags"}
)


@memoised(_MAX_CACHED_CHARACTERS, lambda name: 100 + len(name))
def snake(name: str) -> str:
    """Return the Python name of a function, a field or a parameter."""
    made = name.replace("-", "_").lower()
    return f"{made}_" if keyword.iskeyword(made) or made in _TAKEN else made


@memoised(_MAX_CACHED_CHARACTERS, lambda name: 100 + len(name))
def pascal(name: str) -> str:
    """Return the Python name of a type."""
    made = "".join(word[:1].upper() + word[1:].lower() for word in name.split("-"))
    return f"{made}_" if keyword.iskeyword(made) or made in _TYPES else made


@memoised(_MAX_CACHED_CHARACTERS, lambda name: 100 + len(name))
def constant(name: str) -> str:
    """Return the Python name of a case of an enum, or of a flag."""
    made = name.replace("-", "_").upper()
    return f"{made}_" if made == "MRO" else made
