"""Views of native arrays of core values (``wasmtime_val_raw_t``)."""

from __future__ import annotations

__all__ = ["Views"]


class Views(dict[str, memoryview]):
    """Typed views of an array by format, created on first access, because each function uses few of them."""

    __slots__ = ("_block",)

    def __init__(self, block: memoryview) -> None:
        self._block = block

    def __missing__(self, form: str) -> memoryview:
        made: memoryview = self._block.cast(form)  # type: ignore[call-overload]
        self[form] = made
        return made
