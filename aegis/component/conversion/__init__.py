"""Converters between Python values and the canonical ABI: generated Python source that lifts and lowers values.

layout              sizes, alignments and flattened core types (CanonicalABI.md)
lift, lower         generate the source that reads and writes core values and linear memory
source, construct   assemble and compile generated source; construct dataclasses quickly
blocks, strings, scalars    functions that generated source calls
coerce              coercion of values that do not have the exact type, and error messages for those that cannot
"""
