"""Values of WIT types and core WebAssembly types: generate, mutate and shrink them, without hypothesis.

edges               boundary values
shape               the interface of the generators, one per type
scalars, sequences  numbers, characters, flags; strings, bytes, lists
scripts, documents  texts of all scripts and normal forms; JSON documents, of the schemas that a guest returns
generate            the generator of any type
core_signatures     what the numbers of a core function are: buffers, C strings, memory for results
buffers, bodies     buffers in the memory of a core module, its allocator, and which functions take addresses
"""
