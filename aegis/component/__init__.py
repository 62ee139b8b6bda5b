"""The component model on core instances: a component is planned, linked and called with core WebAssembly alone.

From bytes to a plan: ``plan`` resolves all instantiation, with ``scopes`` (types) and ``signatures`` (of what is
called unchecked), into a ``program``, a flat list of steps. ``skeleton`` is the component without its code, for the
engine to validate and reflect; ``world`` finds what the result imports and exports. ``artifact`` holds all of it with
the code of the core modules, ``record`` keeps it in the cache.

From a plan to a run: ``link`` is what stores of one component share, ``store`` one instance with its budgets, ``state``
its core instances, memories and contexts, ``handles`` its resources. ``call`` writes the way into a component,
``trampoline`` the way out, from one instance to another too. ``adapters`` plans the calls between instances that do not
pass through the host, with ``entering`` (what can happen in them), ``adapter_module``, ``adapter_text`` and
``adapter_strings`` (their WebAssembly) and ``linked`` (the flags of instances that both sides share).

Values: ``abi`` has sizes, alignments and core types (CanonicalABI.md); ``lift`` and ``lower`` write the source that
reads and writes linear memory, a ``source`` each, with ``strings``, ``scalars`` and ``construct``; ``fit`` makes a
plainer value fit its type, or says what is wrong with it; ``shims`` are core modules of Aegis that save transitions.
"""
