"""The component model on core instances: Aegis plans, links and calls a component with core WebAssembly alone.

planning            from bytes to a component program: instantiation steps, imports, exports and types
conversion          lifting and lowering of values by generated code (CanonicalABI.md)
shims               core modules of Aegis that save transitions between host and guest
link                the plan that all stores of a component share, and the linking of its core modules
store, state        one instance with its budgets; its core instances, memories and conversion contexts
handles, release    handle tables, and the release of host objects that never reach the guest
call, call_source   calls into a component, and their source
trampoline          calls out of a component instance: to the host, to another instance, and to resource functions
traps               traps for violations of the canonical ABI
"""
