"""``python -m aegis``."""

from __future__ import annotations

import os
import sys

# Python puts the working directory first on its path. A guest that may write there could leave modules in it, which
# Aegis would import later in the same run. The package itself is found by now; a checkout's own folder stays.
_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if not sys.flags.safe_path and os.path.abspath(sys.path[0]) != _HERE:
    del sys.path[0]

from aegis.cli import main  # noqa: E402 - after the path is as it should be

sys.exit(main())
