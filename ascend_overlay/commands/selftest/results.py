"""Where the script of a step leaves what it found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write(folder: Path, found: Any) -> None:
    """Leave the result in `folder`, whole; what was there before stays until then."""
    scratch = folder / "result.part"
    scratch.write_text(json.dumps(found), encoding="utf-8")
    scratch.replace(folder / "result.json")
