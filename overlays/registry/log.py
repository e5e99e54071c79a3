"""The logger of the announcements."""

from __future__ import annotations

import logging
import os
import sys

_VLLM = logging.getLogger("vllm")


def announcer() -> logging.Logger:
    """Return a child of vLLM's logger, which shows what it is told where and at the level that vLLM's messages are.

    vLLM sets up its logging when an engine is configured, and models are registered before; until then a handler of
    our own writes to stderr.
    """
    logger = logging.getLogger("vllm.ascend_overlay.registry")
    if not any(isinstance(handler, _UntilVllmLogs) for handler in logger.handlers):
        logger.addHandler(_UntilVllmLogs())
        # vLLM's logger has no level yet and inherits WARNING; its handler has a level of its own later.
        logger.setLevel(logging.INFO)
    return logger


class _UntilVllmLogs(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if _VLLM.handlers or logging.root.handlers or os.environ.get("VLLM_CONFIGURE_LOGGING") == "0":
            return
        wanted = logging.getLevelName(os.environ.get("VLLM_LOGGING_LEVEL", "INFO").upper())
        if not isinstance(wanted, int) or record.levelno >= wanted:
            print(f"{record.levelname} {record.getMessage()}", file=sys.stderr)
