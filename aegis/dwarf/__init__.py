"""Debugging information in DWARF: source lines of machine addresses.

lines      the line tables of versions 2 to 5
cursor     reads numbers and strings from untrusted bytes

An address of WebAssembly is a byte offset from the start of the contents of the code section. The input is untrusted:
time and memory are linear in the size of the sections, and malformed information is ignored from the place where it is
malformed.

Source: DWARF Debugging Information Format, versions 4 and 5, sections 6.2 and 7.
"""
