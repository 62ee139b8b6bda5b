"""Guests built from source for tests: once for what went into them, or else what the compiler said."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp

from aegis.errors import ArtifactError
from aegis.text import printable

__all__ = ["Builder"]

_SAID = 4000
_LONG = 600.0


class Builder:
    """Builds guests into ``folder``, with commands that run in ``place``."""

    def __init__(self, folder: Path, place: Path) -> None:
        self.folder, self.place = folder, place

    def build(
        self, source: str | os.PathLike[str], command: Sequence[str] | None = None, *,
        inputs: Sequence[str | os.PathLike[str]] = (),
    ) -> Path:  # fmt: skip
        """Return the path of a guest, built now unless it was built of the same before.

        ``source`` is text of WebAssembly, or a path; a relative one begins at ``place``. Raise
        :class:`~aegis.errors.ArtifactError` with what the compiler said, or ``OSError`` for files.
        """
        text = isinstance(source, str) and source.lstrip().startswith(("(", ";"))
        if command is None:
            content = str(source) if text else self._at(source).read_text(encoding="utf-8")
            return self._kept([content.encode()], lambda out: out.write_bytes(_assembled(content)))
        if text:
            raise ArtifactError("a command compiles a file: give the path of one")
        words = [os.fspath(word) for word in command]
        if not any("{output}" in word for word in words):
            raise ArtifactError("the command has no {output}, so nobody knows where the guest would be")
        path = self._at(source)
        parts = [path.read_bytes(), *(self._at(one).read_bytes() for one in inputs), *(w.encode() for w in words)]
        return self._kept(parts, lambda out: self._run(words, path, out))

    def _at(self, path: str | os.PathLike[str]) -> Path:
        return self.place / path

    def _kept(self, parts: Sequence[bytes], make: object) -> Path:
        """Return what was made of these parts, or have it made beside and moved into place whole."""
        digest = sha256()
        for part in parts:
            digest.update(len(part).to_bytes(8, "little") + part)
        path = self.folder / f"{digest.hexdigest()}.wasm"
        if path.is_file():
            return path
        scratch = Path(mkdtemp(prefix=".building-", dir=self.folder))
        try:
            made = scratch / "guest.wasm"
            make(made)  # type: ignore[operator]
            made.replace(path)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return path

    def _run(self, words: Sequence[str], source: Path, output: Path) -> None:
        filled = [word.replace("{source}", str(source)).replace("{output}", str(output)) for word in words]
        try:
            done = subprocess.run(
                filled, cwd=self.place, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                timeout=_LONG, check=False,
            )  # fmt: skip
        except FileNotFoundError:
            raise ArtifactError(f"there is no command {printable(filled[0])!r}") from None
        except subprocess.TimeoutExpired:
            raise ArtifactError(f"{printable(filled[0])} took longer than {_LONG:.0f} s") from None
        said = _lines(done.stdout)
        if done.returncode != 0:
            raise ArtifactError(f"{printable(filled[0])} ended with {done.returncode}:\n{said}")
        if not output.is_file():
            raise ArtifactError(f"{printable(filled[0])} made no {{output}}\n{said}")


def _lines(said: bytes) -> str:
    """Return the end of what a compiler said, its lines kept and all else escaped."""
    text = said[-_SAID:].decode(errors="replace")
    return "\n".join(printable(line, 1000) for line in text.splitlines())


def _assembled(text: str) -> bytes:
    from aegis.engine.compile.artifact import text_to_binary

    return text_to_binary(text)
