"""The component model on core instances: a component is planned, linked and called with core WebAssembly alone.

``program``
    the data: all that instantiation does, worked out from the bytes, as a flat list of steps.
``plan``
    makes a program of a component, with ``scopes`` (its types) and ``signatures`` (what is called unchecked).
``stored``
    programs as bytes, to be kept in the cache.
``skeleton``
    the component without its code, for the engine to validate and reflect.
``abi``
    sizes, alignments and core types of WIT types (CanonicalABI.md).
``lift``, ``lower``
    write the code that reads values from linear memory and writes them there.
"""
