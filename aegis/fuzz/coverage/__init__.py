"""Coverage of a guest's code: instrumented copies of a target, and what the search learns from them.

instrumented   an instrumented copy of a target, whose runs also return the contents of the added memories
copies         the two copies of a target: one counts edges, the other records operands of comparisons
edge_map       which edges were reached, and how often
operands       test cases made from operands of comparisons: the input-to-state correspondence
covers         what a test case covers, for the corpus
lcov           covered source lines for other tools
summary        the figures for the report
guided         the search guided by both
"""
