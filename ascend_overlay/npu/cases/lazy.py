"""torch for the modules of cases: what lists cases need not have it, or wait for it; what runs one does."""

from __future__ import annotations

import importlib
from typing import Any


class _Torch:
    """Stands for torch, which is imported when something is taken from it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("torch"), name)


torch: Any = _Torch()
