"""The plugin: contributes the overlays, and answers three more hooks."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from acme_serving import profiles, serving
from ascend_overlay import Overlay
from ascend_overlay.hooks import hookimpl

if TYPE_CHECKING:
    from ascend_overlay.ledgers import Entry

logger = logging.getLogger("acme_serving")

PROTECTED = "vllm.v1.core.sched"
"""The site has its scheduler certified; overlays that change it need a name on ACME_CERTIFIED."""


@hookimpl
def ascend_overlay_overlays() -> Iterable[Overlay]:
    """Contribute the site's overlays."""
    return [serving.overlay, profiles.watched, profiles.unattended]


@hookimpl
def ascend_overlay_select(overlay: Overlay) -> str | None:
    """Veto overlays, whoever brings them, that change the scheduler and are not certified."""
    if overlay.name in os.environ.get("ACME_CERTIFIED", "").split(","):
        return None
    touched = [patch.target for patch in overlay.patches if patch.target.startswith(PROTECTED)]
    return f"it changes {touched[0]} and is not on ACME_CERTIFIED" if touched else None


@hookimpl
def ascend_overlay_resolve_conflict(target: str, overlays: Sequence[Overlay]) -> str | None:
    """Choose between the site's two profiles by ACME_WATCHED; leave other conflicts to others."""
    if {overlay.name for overlay in overlays} != {profiles.watched.name, profiles.unattended.name}:
        return None
    return profiles.watched.name if os.environ.get("ACME_WATCHED") else profiles.unattended.name


@hookimpl
def ascend_overlay_applied(entry: Entry) -> None:
    """Leave a line in the site's log for every patch that is put in place."""
    logger.info("%s: %s of %s", entry.overlay, entry.kind, entry.target)
