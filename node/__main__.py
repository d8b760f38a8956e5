"""``python -m node`` is ``ainode``."""

from __future__ import annotations

import sys

from node.cli import main

sys.exit(main())
