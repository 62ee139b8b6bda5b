# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""Bindings that Aegis generated, one module an interface."""
