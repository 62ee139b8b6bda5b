"""WASI 0.2 on the grants of one sandbox, implemented against the bindings that Aegis generates from its WIT.

Every wait goes through the scope of the call, so that the deadline and a cancellation end it.
"""
