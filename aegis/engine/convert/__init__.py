"""WIT values across the C boundary: lowering (Python to the engine) and lifting (the engine to Python).

Converters are compiled once a type, as Python source. The engine's image of a value is a 32-byte slot: its
kind in the first byte, its content from the eighth on, and behind that content further slots, in memory of
whoever made the value. Lowering writes into memory of ours, which the engine copies; lifting copies what it
reads, no more than the value's own bytes at a time.

``layout``
    how many bytes a type takes, and all of them that never change, as a template.
``lower``, ``lift``
    the generators.
``shape``
    what is wrong with a value that did not fit, or a plainer value made fit: dictionaries for records,
    names for enums.
"""
