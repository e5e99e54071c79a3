"""Releases of a package, vLLM first of all, as trees of source: found, fetched and kept, never installed, never run."""

from ascend_overlay.releases.release import Release
from ascend_overlay.releases.wanted import cached, find
from ascend_overlay.releases.watcher import Watcher

__all__ = ["Release", "Watcher", "cached", "find"]
