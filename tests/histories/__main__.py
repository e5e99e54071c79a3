"""Run random histories: `python -m tests.histories --count 2000 --seed 1`; given ones: `--programs FILE`."""

from __future__ import annotations

import sys

from .runs import main

sys.exit(main())
