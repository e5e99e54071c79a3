"""Shape 10: entries of vLLM's registries: KV connectors, tool parsers, reasoning parsers."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from shape_kit import late

import ascend_overlay
from ascend_overlay import Overlay, ref
from ascend_overlay.errors import ConflictError
from ascend_overlay.hooks import hookimpl

pytestmark = [pytest.mark.vllm, pytest.mark.usefixtures("vllm_loaded")]

CONNECTORS = "vllm.distributed.kv_transfer.kv_connector.factory:KVConnectorFactory._registry"
TOOLS = "vllm.tool_parsers.abstract_tool_parser:ToolParserManager.tool_parsers"
REASONING = "vllm.reasoning.abs_reasoning_parsers:ReasoningParserManager.reasoning_parsers"

overlay = Overlay("shape_10", reason="parsers and a connector of our own", vllm=">=0.32", default=False)
overlay.item(CONNECTORS, "Shape10Connector", ref("shape_parts.connector:connector_class"))
overlay.item(CONNECTORS, "ExampleConnector", ref("shape_parts.connector:connector_class"), reason="in place of vLLM's")
overlay.item(TOOLS, "shape_10_tools", ref("shape_parts.tools:Tools"))
overlay.item(REASONING, "shape_10_thoughts", ref("shape_parts.thoughts:Thoughts"))

rival = Overlay("shape_10_rival", reason="a parser under the same name", vllm=">=0.32", default=False)
rival.item(TOOLS, "shape_10_tools", ref("shape_parts.tools:OtherTools"))


@hookimpl
def ascend_overlay_overlays() -> Iterable[Overlay]:
    return [overlay, rival]


def stock() -> None:
    from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory
    from vllm.reasoning import ReasoningParserManager
    from vllm.tool_parsers import ToolParserManager

    with pytest.raises(ValueError, match="not registered"):
        KVConnectorFactory.get_connector_class_by_name("Shape10Connector")
    assert KVConnectorFactory.get_connector_class_by_name("ExampleConnector").__name__ == "ExampleConnector"
    for find in (ToolParserManager.get_tool_parser, ReasoningParserManager.get_reasoning_parser):
        with pytest.raises(KeyError):
            find("shape_10_tools")
        with pytest.raises(KeyError):
            find("shape_10_thoughts")


def effect() -> None:
    from shape_parts import connector, thoughts, tools
    from vllm.config import KVTransferConfig
    from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory
    from vllm.reasoning import ReasoningParserManager
    from vllm.tool_parsers import ToolParserManager

    for name in ("Shape10Connector", "ExampleConnector"):
        asked = KVTransferConfig(kv_connector=name, kv_role="kv_both")
        assert KVConnectorFactory.get_connector_class(asked) is connector.Connector
    assert ToolParserManager.get_tool_parser("shape_10_tools") is tools.Tools
    assert "shape_10_tools" in ToolParserManager.list_registered()
    assert ReasoningParserManager.get_reasoning_parser("shape_10_thoughts") is thoughts.Thoughts


def test_entries_are_found_by_vllm_and_go_away() -> None:
    import vllm.distributed.kv_transfer.kv_connector.factory  # noqa: F401

    stock()
    with late(__name__, "shape_10") as found:
        effect()
        assert {(one.kind, one.seam, one.state) for one in found} == {("item", "registry entry", "applied")}
        assert [bool(one.notes) for one in found] == [False, True, False, False]
    stock()


def test_two_overlays_and_one_entry() -> None:
    from shape_parts import tools
    from vllm.tool_parsers import ToolParserManager

    with pytest.raises(ConflictError, match=r"shape_10_tools.*shape_10 .*shape_10_rival"):
        ascend_overlay.enable(load=[__name__], only=["shape_10", "shape_10_rival"], propagate=False)
    stock()
    key = f"{TOOLS}['shape_10_tools']"
    with late(__name__, "shape_10", "shape_10_rival", prefer={key: "shape_10_rival"}):
        assert ToolParserManager.get_tool_parser("shape_10_tools") is tools.OtherTools
        assert {one.state for one in ascend_overlay.ledger().of("shape_10")[-4:]} == {"skipped"}
    stock()
