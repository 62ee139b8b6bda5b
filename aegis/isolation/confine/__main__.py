"""``python -m aegis.isolation.confine --probe``: confine this process and print the layers as JSON lines."""

from __future__ import annotations

import json
import os
import sys

from aegis.isolation.confine import Confinement, confine

_PROBE = Confinement(keep_fds=(1, 2), cpu_seconds=60, file_bytes=1 << 20)  # standard output may be a file


def main(arguments: list[str]) -> int:
    """Print one line for each layer to standard output; return 2 for other arguments."""
    if arguments != ["--probe"]:
        os.write(2, b"usage: python -m aegis.isolation.confine --probe\n")
        return 2
    lines = "".join(json.dumps(layer._asdict()) + "\n" for layer in confine(_PROBE))
    os.write(1, lines.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
