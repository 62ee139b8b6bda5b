"""Stores, their memories and their plans: the only owners of native run-time state."""
