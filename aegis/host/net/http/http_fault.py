"""The failure of an exchange, by the names of ``error-code`` of ``wasi:http/types``."""

from __future__ import annotations

__all__ = ["HttpFault"]


class HttpFault(Exception):
    """The failure of an exchange: ``code`` names a case of ``error-code``, ``detail`` is its payload if it has one."""

    def __init__(self, code: str, detail: object = None) -> None:
        super().__init__(code)
        self.code, self.detail = code, detail
