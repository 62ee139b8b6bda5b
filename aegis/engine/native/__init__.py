"""The native library of the ``wasmtime`` wheel.

library             its C functions, bound on first use
signals             its signal handlers, and whether they are still installed
advisories          published security advisories that the installed version has no fix for
process_lock        a lock that a forked child finds free
"""
