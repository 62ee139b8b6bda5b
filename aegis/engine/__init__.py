"""The engine: the only part that knows wasmtime. Core WebAssembly: compiling, stores, calls and traps.

``native`` binds the library; ``config``, ``code``, ``artifact`` and ``cache`` turn bytes into code; ``plan`` and
``store`` run it; ``caller`` and ``trampoline`` are the two directions across the boundary, with ``abi``, ``memory`` and
``door`` between them; ``ticker`` and ``threads`` keep time and place; ``classify`` says why a call ended.
``validator`` and ``reflect`` ask the engine about components, which it never runs.
"""

from aegis.engine.compile.artifact import Module as Module
from aegis.wasm.binary import read_module as inspect_binary

__all__ = ["Module", "inspect_binary"]
