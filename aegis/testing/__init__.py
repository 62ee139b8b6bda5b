"""Tests of guests: strategies and state machines for hypothesis, guests built from source, and the pytest plugin.

strategies          values for WIT types, functions and core signatures
machines, members   resources as state machines
plugin              fixtures and the marker ``guest``
guests              guests built from source for a test
script              calls as Python source
target_cost         search for inputs that are expensive
"""
