"""``python -m magicmirror <command>``."""

from __future__ import annotations

import sys

from magicmirror.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
