from __future__ import annotations

from vllm.reasoning.abs_reasoning_parsers import ReasoningParser


class Thoughts(ReasoningParser):
    pass
