"""WebAssembly binaries as data: modules, components, and what bounds them before anything compiles. No engine."""
