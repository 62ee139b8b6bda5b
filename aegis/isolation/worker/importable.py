"""The modules that a worker may import after confinement, and the environment variables that it inherits."""

from __future__ import annotations

import os
from collections.abc import Iterator

__all__ = [
    "COMPONENT_STDLIB_MODULES", "LATE_AEGIS_MODULES", "LATE_STDLIB_MODULES", "NOT_PRELOADED", "PASSED_VARIABLES",
    "forked_worker_modules",
]  # fmt: skip

LATE_AEGIS_MODULES = (
    "aegis.engine.call.exceptions", "aegis.engine.store.missing", "aegis.sandbox.host_function_adapters",
    "aegis.sandbox.missing_imports",
    "aegis.host.blocking", "aegis.host.clocks", "aegis.host.denials", "aegis.host.entropy", "aegis.host.files",
    "aegis.host.files.audit",
    "aegis.host.files.directory", "aegis.host.files.file_id", "aegis.host.files.file_times",
    "aegis.host.files.open_file", "aegis.host.preview1.times",
    "aegis.host.files.symlink_moves", "aegis.host.files.utime", "aegis.host.host_quota", "aegis.host.logs",
    "aegis.host.net", "aegis.host.net.sending", "aegis.host.preview1.files", "aegis.host.preview1.paths",
    "aegis.host.preview1.poll", "aegis.host.preview1.system", "aegis.policy.clock", "aegis.policy.declaration",
    "aegis.policy.random", "aegis.policy.remedies", "aegis.policy.short_form_parsers", "aegis.support.proposals",
    "aegis.wit.err",
)  # fmt: skip
"""Modules of Aegis that running a core module may import."""
LATE_STDLIB_MODULES = (
    "collections.abc", "copy", "difflib", "encodings.ascii", "encodings.raw_unicode_escape",
    "encodings.unicode_escape", "enum", "heapq", "linecache", "logging", "re", "re._casefix", "re._compiler",
    "re._constants", "re._parser", "selectors", "socket", "string", "textwrap", "token", "tokenize", "traceback",
    "_colorize", "warnings", "weakref",
)  # fmt: skip
"""Modules of the standard library that running a core module may import, with their own imports."""
NOT_PRELOADED = frozenset(
    {"aegis.__main__", "aegis.attack", "aegis.bindgen", "aegis.bindings", "aegis.cli", "aegis.fuzz",
     "aegis.host.keyvalue", "aegis.host.net.http", "aegis.host.preview2", "aegis.host.preview3",
     "aegis.isolation.confine.__main__", "aegis.prelude", "aegis.testing"}
)  # fmt: skip
"""Modules and packages that a worker does not preload. If a sandbox needs one, it is imported before that sandbox's
confinement. Running a component may import any other module of Aegis."""
COMPONENT_STDLIB_MODULES = (
    "ast", "bisect", "collections.abc", "contextlib", "copy", "dataclasses", "datetime", "_pydatetime", "difflib",
    "dis", "_opcode_metadata", "encodings.ascii", "encodings.idna", "encodings.latin_1", "encodings.punycode",
    "encodings.raw_unicode_escape", "encodings.unicode_escape", "encodings.utf_16_le", "encodings.utf_32_le", "enum",
    "functools", "heapq", "importlib", "importlib._abc", "importlib.abc", "importlib.machinery", "importlib.util",
    "inspect", "ipaddress", "json", "json.decoder", "json.encoder", "json.scanner", "keyword", "linecache", "logging",
    "numbers", "opcode", "operator", "platform", "re", "re._casefix", "re._compiler", "re._constants", "re._parser",
    "reprlib", "selectors", "signal", "socket", "stat", "string", "stringprep", "struct", "textwrap", "token",
    "tokenize", "traceback", "_colorize", "types", "typing", "warnings", "weakref",
)  # fmt: skip
"""Modules of the standard library that running a component may import, with their own imports."""
PASSED_VARIABLES = (
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "LANG",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONHASHSEED",
)
"""Environment variables that the fork server and its workers inherit."""


def forked_worker_modules() -> Iterator[str]:
    """Yield the modules that a worker imports or reads which the command has forked from itself."""
    yield from LATE_AEGIS_MODULES
    yield from LATE_STDLIB_MODULES
    isolation = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for room in ("confine", "protocol", "worker"):
        for file in os.listdir(os.path.join(isolation, room)):
            if file.endswith(".py"):
                yield f"aegis.isolation.{room}.{file.removesuffix('.py')}".removesuffix(".__init__")
