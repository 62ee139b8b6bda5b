"""The engine: the only part that knows wasmtime. Configuration, compiling, stores, calls and traps.

``native`` binds the library; ``binary`` reads modules; ``config``, ``artifact`` and ``cache`` turn bytes
into code; ``store`` runs it; ``caller`` and ``trampoline`` are the two directions across the boundary,
with ``abi``, ``memory`` and ``door`` between them; ``ticker`` and ``threads`` keep time and place;
``classify`` says why a call ended.
"""

from aegis.engine.artifact import Module as Module
from aegis.wasm.binary import read_module as inspect_binary

__all__ = ["Module", "inspect_binary"]
