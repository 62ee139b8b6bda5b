"""Run the command line: ``python -m aegis``."""

from __future__ import annotations

import os
import sys

# ``python -m`` puts the working directory first in sys.path. A guest with write access to that directory could leave
# modules in it, which Aegis would import later in the same run. Remove the entry, unless it is the directory that
# this package was imported from.
_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if not sys.flags.safe_path and os.path.abspath(sys.path[0]) != _HERE:
    del sys.path[0]

from aegis.cli import main  # noqa: E402 - imported only after sys.path is safe

sys.exit(main())
