"""Values of the component model: their layout, and the generated source that lifts and lowers them.

layout              sizes, alignments, core types (CanonicalABI.md)
lift, lower         source that reads and writes values in linear memory
source, construct   how that source is written and compiled
blocks, strings, scalars    the parts that values are made of
coerce              values that almost fit their type, and the errors of those that do not
"""
