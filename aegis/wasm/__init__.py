"""Read WebAssembly modules and components as data, and check them against limits before compilation. No engine."""
