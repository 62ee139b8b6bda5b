"""The planner: instantiates a component symbolically, once, and records the steps that each run repeats.

scopes, plan        index spaces of types and definitions; symbolic instantiation
program             the resulting program: a flat list of instantiation steps and trampolines
signatures          comparison of core signatures, for calls that bypass the engine's type check
skeleton            the component without its code, for the engine to validate
type_keys           Python classes in WIT types, as part of cache keys
world, plain_world  names and types of imports and exports; their encoding as plain data
artifact, record    the compiled component that the embedder holds; its cache entry
"""
