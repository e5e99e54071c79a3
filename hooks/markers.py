"""The names that plugins and ascend_overlay find each other by, and the two pluggy markers."""

from __future__ import annotations

import pluggy

PROJECT = "ascend_overlay"
ENTRY_POINT_GROUP = "ascend_overlay.plugins"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
