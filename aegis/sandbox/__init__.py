"""One run of one guest.

sandbox             the sandbox: its grants, its budgets, its end
component, exports  a component in a sandbox, and its exports as Python objects
guest_state         memories and globals of a guest
link_module, link_component, host_functions    who provides what a guest imports
in_process          guests that run in this process; :mod:`aegis.isolation` has the other backend
instantiate, artifacts, protected_paths    what happens before the first call
meter               usage, and the events that report it
columns             calls over columns
"""
