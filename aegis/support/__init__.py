"""Helpers that every package may use; they need the standard library alone.

lean, records       replacements for ``typing`` and ``dataclasses`` that import faster
bounded_cache       caches whose keys a guest chooses
buffers             columns of scalars in the caller's buffers
pieces              conversions of long texts that let other threads run
module_archive      the compiled modules that a command imports, in one file
descriptors         keep descriptors 0, 1 and 2 free of files that Aegis opens
"""
