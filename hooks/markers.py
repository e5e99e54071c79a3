"""The two pluggy markers of the project."""

from __future__ import annotations

import pluggy

from ascend_overlay.hooks import PROJECT

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
