"""Finders that stand on sys.meta_path and ask the others.

Every Python process of an activated environment may import this, before anything is imported that need not be.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


def ask_others(
    finder: "object", fullname: "str", path: "Sequence[str] | None", target: "ModuleType | None"
) -> "ModuleSpec | None":
    """Return what the finders on sys.meta_path beside `finder` find, or None."""
    # The list may change meanwhile, and the import system, in the middle of it, would skip a finder.
    for other in list(sys.meta_path):
        find = getattr(other, "find_spec", None)
        if other is not finder and find is not None and (spec := find(fullname, path, target)):
            return spec  # type: ignore[no-any-return]
    return None
