"""The engine: compiling, stores, calls and traps of core WebAssembly. Only this package uses wasmtime.

native              the library's functions, its signal handlers, and its known vulnerabilities
compile             from bytes to native code: configuration, artifacts, and the cache on disk
store               stores, their plans, imports and memories
call                calls in both directions between host and guest, and the exceptions for failed calls
threads             threads that may run guests, deadlines, and the event loop

The engine validates components and reports their types (``compile.validator``, ``compile.reflect``), but never runs
them: :mod:`aegis.component` does so with core modules.
"""

from aegis.engine.compile.artifact import Module as Module
from aegis.wasm.binary import read_module as inspect_binary

__all__ = ["Module", "inspect_binary"]
