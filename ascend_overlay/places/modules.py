"""The modules of this process."""

from __future__ import annotations

import sys
from types import ModuleType


def loaded() -> list[ModuleType]:
    """Return every module, in the order in which they were imported."""
    return [module for module in list(sys.modules.values()) if isinstance(module, ModuleType)]
