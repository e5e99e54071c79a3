"""The overlay that is always on: one patch of each kind that a site is likely to need."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from ascend_overlay import Overlay
from ascend_overlay.conditions import env, role

logger = logging.getLogger("acme_serving")

overlay = Overlay(
    "acme_serving",
    vllm=">=0.12,<0.34",
    reason="what the site needs on every server",
    upstream=None,
)

HERMES = "Hermes2ProToolParser"

# An item, and version ranges: the registry has moved between two releases. One patch is for each place, and the
# ledger says which of them this vLLM ruled out.
overlay.item(
    "vllm.entrypoints.openai.tool_parsers.abstract_tool_parser:ToolParserManager.lazy_parsers",
    "acme",
    ("vllm.entrypoints.openai.tool_parsers.hermes_tool_parser", HERMES),
    vllm="<0.14",
    reason="the site's models write tool calls as Hermes does, and its clients ask for the parser 'acme'",
)
overlay.item(
    "vllm.tool_parsers.abstract_tool_parser:ToolParserManager.lazy_parsers",
    "acme",
    ("vllm.tool_parsers.hermes_tool_parser", HERMES),
    vllm=">=0.14",
    reason="the site's models write tool calls as Hermes does, and its clients ask for the parser 'acme'",
)

# An attribute, and a condition: the place is a constant that only an engine core reads, and only some sites are slow.
overlay.attribute(
    "vllm.v1.engine.core:HANDSHAKE_TIMEOUT_MINS",
    20,
    when=env("ACME_SLOW_STORAGE"),
    reason="reading a large model from slow storage takes longer than vLLM waits",
)


# A wrapper, in workers only.
@overlay.wrap(
    "vllm.model_executor.model_loader.base_loader:BaseModelLoader.load_model",
    when=role("worker"),
    reason="the site watches how long each worker takes to load how much",
)
def load_model(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Log the size of the model and the time that loading it took."""
    started = time.perf_counter()
    model = wrapped(*args, **kwargs)
    tensors = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}.values()
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    logger.warning("loaded %.1f MiB in %.1f s", size / 2**20, time.perf_counter() - started)
    return model
