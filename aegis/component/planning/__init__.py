"""From a component's bytes to a plan: its instantiation is run symbolically, once, before anything runs.

scopes, plan        types and definitions, resolved
program             the steps that are left for each instantiation, as data
signatures          comparison of core signatures, for calls that the engine does not check
skeleton            the component without code, which the engine validates
world, plain_world  names and types of imports and exports; the same as plain data
artifact, record    the component that the embedder holds; its entry in the cache
"""
