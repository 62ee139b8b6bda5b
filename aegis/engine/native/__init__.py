"""The native library of the ``wasmtime`` wheel: its functions, its signal handlers, its security advisories."""
