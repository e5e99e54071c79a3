"""Two overlays that decide the same target, of which a server needs one: the plugin's hook chooses."""

from __future__ import annotations

from ascend_overlay import Overlay

_POLL_PERIOD = "vllm.v1.engine.utils:STARTUP_POLL_PERIOD_MS"

watched = Overlay(
    "acme_watched",
    vllm=">=0.32,<0.34",
    reason="a person who watches a server start wants a sign of life every two seconds",
)
watched.attribute(_POLL_PERIOD, 2_000)

unattended = Overlay(
    "acme_unattended",
    vllm=">=0.32,<0.34",
    reason="nobody reads that the engine is still starting; once a minute is enough for the log",
)
unattended.attribute(_POLL_PERIOD, 60_000)
