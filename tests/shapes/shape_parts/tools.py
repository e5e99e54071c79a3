from __future__ import annotations

from vllm.tool_parsers.abstract_tool_parser import ToolParser


class Tools(ToolParser):
    pass


class OtherTools(ToolParser):
    pass
