"""Core modules of Aegis that save transitions between the host and a guest. They are trusted code, and small.

module              compiling such a module
fused_calls         one entry for realloc, copy, call, copy, post-return
adapters, linked    calls between component instances that do not pass through the host
adapter_text, adapter_strings, adapter_module    their WebAssembly text
entering            the rules of entering and leaving instances that can matter to a component
columns             calls over columns
"""
