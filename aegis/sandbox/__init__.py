"""Sandboxes: a sandbox is one run of one guest.

sandbox             the public class :class:`aegis.Sandbox`
run                 the state and the life cycle of a sandbox, shared by the modules below
backend             the seam to the place where guests run: the protocols Backend, Run, Store and Plan
in_process          the backend of guests in this process; :mod:`aegis.isolation` has the other one
entry_points        the exports by which artifacts are run: programs, reactors, single functions
artifacts           admission, validation and compilation of a guest
protected_paths     host files that no filesystem grant may reach
instantiate         creation of the store of a run, on a thread that may run its guest code
link_module, link_component, host_functions    the functions that serve a guest's imports
component, exports  a component in a sandbox, and its exports as Python objects
guest_state         memory and globals of a guest, and the guest as a host function sees it
columns             calls over columns
awaited, opening    calls of a sandbox on an event loop, and its creation off the loop
meter               usage, and the events that report it
"""
