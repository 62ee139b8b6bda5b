"""One call: into the guest (``caller``), out of it (``trampoline``), and the state that both share (``door``).

core_values         core values at the C boundary
classify            why a call ended: trap codes and messages of the engine
columns             one call for each row, by a loop in WebAssembly
"""
