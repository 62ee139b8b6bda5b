"""Parts of guests in WebAssembly text that several tests of campaigns use."""

from __future__ import annotations

__all__ = ["ALLOCATOR"]

ALLOCATOR = """
  (global $next (mut i32) (i32.const 1024))
  (func (export "malloc") (param i32) (result i32) (local $at i32)
    (local.set $at (global.get $next))
    (global.set $next (i32.add (local.get $at) (local.get 0)))
    (local.get $at))
  (func (export "free") (param i32) (global.set $next (i32.const 1024)))
"""
"""An allocator whose ``free`` frees everything; for a module with a memory."""
