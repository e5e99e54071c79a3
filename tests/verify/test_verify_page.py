"""The page of operators, the recorded schemas and the overlays' ranges say what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from packaging.specifiers import SpecifierSet

from ascend_overlay import Overlay, versions
from ascend_overlay.commands.verify import page, usage
from ascend_overlay.commands.verify.usage import Usage
from ascend_overlay.npu import contract, schemas
from ascend_overlay.npu.calls import Call
from ascend_overlay.npu.reference import KERNELS
from ascend_overlay.overlays import ascend_overlay_overlays

DOCUMENT = Path(__file__).parents[2] / "docs" / "operators.md"
OVERLAYS = list(ascend_overlay_overlays())
BY_NAME = {kernel.name: kernel for kernel in KERNELS}


@pytest.mark.parametrize("version", schemas.releases())
def test_every_operator_is_recorded(version: str) -> None:
    recorded = schemas.releases()[version].schemas
    assert set(recorded) == set(BY_NAME), "run: python -m ascend_overlay.npu.schemas"


def test_our_schemas_are_those_of_their_release() -> None:
    home = schemas.releases()[schemas.HOME]
    assert {
        name: contract.verdict(kernel.schema, home.schemas[name]) for name, kernel in BY_NAME.items()
    } == dict.fromkeys(BY_NAME, "same")


def test_a_file_is_read_as_it_was_written() -> None:
    for version, release in schemas.releases().items():
        assert schemas.path_of(version).read_text(encoding="utf-8") == schemas.text_of(release)


def test_the_page_is_current() -> None:
    _, mark, below = DOCUMENT.read_text(encoding="utf-8").partition(page.MARK)
    assert mark and below.strip() == page.text().strip(), (
        "run: python -m ascend_overlay.commands.verify.page docs/operators.md"
    )


def test_writing_the_page_keeps_what_is_above(tmp_path: Path) -> None:
    document = tmp_path / "operators.md"
    document.write_text(f"# Operators\n\nRead this.\n\n{page.MARK}\n\nold\n", encoding="utf-8")
    page.write(document)
    text = document.read_text(encoding="utf-8")
    assert text.startswith(f"# Operators\n\nRead this.\n\n{page.MARK}\n\n| operator |") and "old" not in text
    page.write(document)
    assert document.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("name", BY_NAME)
def test_every_kernel_says_what_it_computes_and_where_that_is_from(name: str) -> None:
    assert len(page._summary(BY_NAME[name])) > 20
    assert BY_NAME[name].source


@pytest.mark.parametrize("version", schemas.releases())
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda overlay: overlay.name)
def test_an_overlay_is_not_offered_to_a_release_that_refuses_its_calls(overlay: Overlay, version: str) -> None:
    reasons = page.unfit(usage.of(overlay), schemas.releases()[version], BY_NAME)
    admitted = versions.admits(SpecifierSet(overlay.ranges.get("torch_npu", "")), version)
    assert not (reasons and admitted), (
        f"{reasons} Give the overlay {overlay.name!r} a range: torch_npu='>=...', or call the operator in another way."
    )


def test_what_a_release_refuses() -> None:
    old = schemas.releases()["2.9.0"]
    call = Call("npu_mrope", 5, frozenset({"cache_mode"}))
    use = Usage(frozenset({"npu_mrope", "npu_gather_pa_kv_cache"}), (("somewhere", call),))
    assert page.unfit(use, old, BY_NAME) == [
        "torch_npu 2.9.0 has no operator npu::npu_gather_pa_kv_cache.",
        "npu::npu_mrope of torch_npu 2.9.0 has no argument 'cache_mode'.",
    ]
    assert page.unfit(use, schemas.releases()[schemas.HOME], BY_NAME) == []
    without = Usage(use.loads - {"npu_gather_pa_kv_cache"}, (("somewhere", Call("npu_mrope", 5)),))
    assert page.unfit(without, old, BY_NAME) == []


def test_what_an_overlay_uses_is_found_without_importing_it() -> None:
    found = {overlay.name: usage.of(overlay) for overlay in OVERLAYS}
    assert found["layernorm"].loads >= {"npu_rms_norm", "npu_add_rms_norm"}
    assert ("ascend_overlay.overlays.rotary.rotation", "npu_mrope") in {
        (module, call.operator) for module, call in found["rotary"].calls
    }
    # It calls it in a module that it shares with others.
    assert "npu_format_cast" in found["linear"].loads
    assert found["registry"].loads == frozenset()
    for use in found.values():
        assert {call.operator for _, call in use.calls} <= use.loads | set(BY_NAME)


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda overlay: overlay.name)
def test_what_is_called_is_loaded(overlay: Overlay) -> None:
    use = usage.of(overlay)
    assert {call.operator for _, call in use.calls} <= use.loads, "npu.load(...) it where it is called"
