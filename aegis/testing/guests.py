"""Build guests from source for tests. The result is cached by a digest of all inputs of the build."""

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

__all__ = ["GuestBuilder"]

_MAX_OUTPUT_BYTES = 4000
"""Most of the compiler's output that an error quotes; its end is kept."""
_BUILD_SECONDS = 600.0


class GuestBuilder:
    """Builds guests into ``folder``. Commands run in ``place``, where relative paths begin."""

    def __init__(self, folder: Path, place: Path) -> None:
        self.folder, self.place = folder, place

    def build(
        self, source: str | os.PathLike[str], command: Sequence[str] | None = None, *,
        inputs: Sequence[str | os.PathLike[str]] = (),
    ) -> Path:  # fmt: skip
        """Build a guest and return its path; reuse an earlier result if source, command and inputs are unchanged.

        ``source`` is WebAssembly text or a path. Without ``command`` it is assembled as text; otherwise ``{source}``
        and ``{output}`` in the command are replaced by paths. Raise :class:`~aegis.errors.ArtifactError` with the
        compiler's output if the build fails, and ``OSError`` if a file cannot be read.
        """
        text = isinstance(source, str) and source.lstrip().startswith(("(", ";"))
        if command is None:
            content = str(source) if text else self._at(source).read_text(encoding="utf-8")
            return self._kept([content.encode()], lambda out: out.write_bytes(_assembled(content)))
        if text:
            raise ArtifactError("a build command needs a source file: pass a path, not WebAssembly text")
        words = [os.fspath(word) for word in command]
        if not any("{output}" in word for word in words):
            raise ArtifactError("the build command has no {output}: add it where the compiler expects the output path")
        path = self._at(source)
        parts = [path.read_bytes(), *(self._at(one).read_bytes() for one in inputs), *(w.encode() for w in words)]
        return self._kept(parts, lambda out: self._run(words, path, out))

    def _at(self, path: str | os.PathLike[str]) -> Path:
        return self.place / path

    def _kept(self, parts: Sequence[bytes], make: object) -> Path:
        """Return the cached file for the inputs ``parts``, or create it. It is moved into place when complete."""
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
                timeout=_BUILD_SECONDS, check=False,
            )  # fmt: skip
        except FileNotFoundError:
            raise ArtifactError(f"command not found: {printable(filled[0])!r}") from None
        except subprocess.TimeoutExpired:
            raise ArtifactError(f"{printable(filled[0])} timed out after {_BUILD_SECONDS:.0f} s") from None
        printed = _lines(done.stdout)
        if done.returncode != 0:
            raise ArtifactError(f"{printable(filled[0])} exited with status {done.returncode}:\n{printed}")
        if not output.is_file():
            raise ArtifactError(f"{printable(filled[0])} did not create {{output}}\n{printed}")


def _lines(printed: bytes) -> str:
    """Return the end of a compiler's output, escaped line by line."""
    text = printed[-_MAX_OUTPUT_BYTES:].decode(errors="replace")
    return "\n".join(printable(line, 1000) for line in text.splitlines())


def _assembled(text: str) -> bytes:
    from aegis.engine.compile.artifact import text_to_binary

    return text_to_binary(text)
