"""Shape 3: `__post_init__` of config classes that pydantic compiled, effective also where they are fields of others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from shape_kit import entry, late

from ascend_overlay import Overlay
from ascend_overlay.hooks import hookimpl

pytestmark = [pytest.mark.vllm, pytest.mark.usefixtures("vllm_loaded")]

VLLM = "vllm.config.vllm:VllmConfig.__post_init__"
SPECULATIVE = "vllm.config.speculative:SpeculativeConfig.__post_init__"

overlay = Overlay("shape_03", reason="defaults of a config are adapted to the device", vllm=">=0.32", default=False)


@overlay.wrap(SPECULATIVE)
def at_least_two(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    result = wrapped(*args, **kwargs)
    instance.prompt_lookup_min = max(2, instance.prompt_lookup_min or 0)
    return result


@overlay.wrap(VLLM)
def stamped(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    result = wrapped(*args, **kwargs)
    instance.additional_config = {**instance.additional_config, "adapted": True}
    return result


@hookimpl
def ascend_overlay_overlays() -> Iterable[Overlay]:
    return [overlay]


NGRAM = {"method": "ngram", "num_speculative_tokens": 2, "prompt_lookup_max": 3, "prompt_lookup_min": 1}


def lookups() -> tuple[int, int]:
    """Return prompt_lookup_min of a config built by itself, and of one built from a dict inside a VllmConfig."""
    from vllm.config import SpeculativeConfig, VllmConfig

    by_itself = SpeculativeConfig(**NGRAM)
    inside = VllmConfig(speculative_config=NGRAM).speculative_config
    return by_itself.prompt_lookup_min, inside.prompt_lookup_min


def adapted() -> bool:
    """Return whether a VllmConfig inside another pydantic class is adapted."""
    import pydantic
    from vllm.config import VllmConfig

    built = pydantic.TypeAdapter(VllmConfig).validate_python({"additional_config": {"mine": 1}})
    assert built.additional_config["mine"] == 1
    return bool(built.additional_config.get("adapted")) and bool(VllmConfig().additional_config.get("adapted"))


def stock() -> None:
    from vllm.config import VllmConfig

    assert lookups() == (1, 1)
    assert "adapted" not in VllmConfig().additional_config
    assert not adapted()


def effect() -> None:
    assert lookups() == (2, 2)
    assert adapted()


def test_embedding_classes_see_the_patch_and_forget_it() -> None:
    stock()
    with late(__name__, "shape_03"):
        effect()
        found = entry("shape_03", SPECULATIVE)
        assert (found.kind, found.state) == ("wrap", "applied")
        (note,) = found.notes
        assert "vllm.config.speculative.SpeculativeConfig" in note
        assert "vllm.config.vllm.VllmConfig" in note
        assert entry("shape_03", VLLM).state == "applied"
    stock()
