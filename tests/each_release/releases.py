"""Which releases of vLLM the built-in overlays are tried on."""

from __future__ import annotations

RELEASES = ("0.27.1", "0.28.0", "0.29.0", "0.30.0", "0.31.0", "0.32.0", "0.33.0")

BUILT_OVER = {"0.33.0": "0.32.0"}
"""Releases of which there is no build for CPUs -> the one whose compiled parts their Python runs over."""

IN_CI = (RELEASES[0], RELEASES[-1])
"""Those that every run of the tests installs, beside the release that all other tests are about."""
