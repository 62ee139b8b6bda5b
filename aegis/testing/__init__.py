"""Tools to test guests: strategies and state machines for hypothesis, guests built from source, a pytest plugin.

strategies          hypothesis strategies for WIT types, functions and core signatures
machines, members   hypothesis state machines that call a component's resources
plugin              the fixtures, and the marker ``guest``
guests              building guests from source, cached
script              calls as Python source
target_cost         hypothesis targets that search for expensive inputs
"""
