"""Calls into the guest (``caller``), calls from the guest to the host (``trampoline``), and their state (``door``).

core_values         conversion of core values at the C boundary
classify            exceptions for failed calls, from trap codes and the state of the door
exceptions          exceptions of guests that no handler caught
columns             calls over columns, by a loop in WebAssembly
"""
