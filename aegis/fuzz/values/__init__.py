"""Values of WIT types and of core WebAssembly: made at random, changed a little, made simpler. Without hypothesis.

edges               where programs go wrong more often than between
shape               what knows how to make the values of one type
scalars, series     numbers, characters, flags; texts, bytes, lists
generate            the shape of any type
buffers, bodies     bytes in the memory of a core module, and which of its functions take them
"""
