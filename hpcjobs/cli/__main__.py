"""``python -m hpcjobs.cli``: the ``hpcjobs`` command."""

from __future__ import annotations

import sys

from hpcjobs.cli import main

if __name__ == "__main__":
    sys.exit(main())
