"""Small things that every room may use. Standard library only.

lean, records       words of ``typing`` and ``dataclasses`` without the cost of importing those
bounded_cache       caches for keys that a guest chooses
buffers             rows of scalars in the caller's buffers
descriptors         descriptors 0, 1 and 2 stay free of files that Aegis opens
"""
