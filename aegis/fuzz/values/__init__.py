"""Values of WIT types and core WebAssembly types: generate, mutate and shrink them, without hypothesis.

edges               boundary values
shape               the interface of the generators, one per type
scalars, sequences  numbers, characters, flags; strings, bytes, lists
generate            the generator of any type
buffers, bodies     buffers in the memory of a core module, and which functions take them
"""
