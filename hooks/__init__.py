"""What plugins are written against.

A plugin is a module or object with functions marked `@hookimpl`; spec.py is the manual of the hooks. A distribution
announces its plugin with an entry point in the group ``ascend_overlay.plugins``.
"""

# Lazy and without typing: this package is imported in every Python process of an activated environment.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ascend_overlay.hooks.markers import ENTRY_POINT_GROUP, PROJECT, hookimpl, hookspec

__all__ = ["ENTRY_POINT_GROUP", "PROJECT", "hookimpl", "hookspec"]


def __getattr__(name: str) -> "Any":
    # Lazy, because activation.py in this package runs in every Python process of an activated environment and must
    # not pay for pluggy.
    if name in __all__:
        from ascend_overlay.hooks import markers

        return getattr(markers, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
