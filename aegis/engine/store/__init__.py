"""The only owners of native run-time state: stores, their memories, and what creating one needs."""
