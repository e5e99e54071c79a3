"""The examples as distributions: installing, listing, uninstalling, and one that is broken. No vLLM is imported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scratch import EXAMPLES, Scratch


def listed(environment: Scratch, *options: str, **variables: str) -> list[dict[str, Any]]:
    """Return the ledger entries that `ascend-overlay list` shows."""
    shown = environment.run("ascend-overlay", "list", "--json", *options, env=variables)
    entries: list[dict[str, Any]] = json.loads(shown.stdout)["entries"]
    return entries


def of(entries: list[dict[str, Any]], overlay: str) -> list[dict[str, Any]]:
    return [entry for entry in entries if entry["overlay"] == overlay]


def test_the_overlay_is_listed_with_the_distribution_that_brings_it(with_examples: Scratch) -> None:
    entries = of(listed(with_examples), "acme_custom_model")

    assert [(entry["kind"], entry["target"], entry["state"]) for entry in entries] == [
        ("model", "CustomModelForCausalLM", "pending"),
        ("item", "vllm.transformers_utils.config:_CONFIG_REGISTRY", "pending"),
    ]
    assert {(entry["distribution"], entry["version"]) for entry in entries} == {("acme-custom-model", "1.0.0")}


def test_listing_imports_neither_vllm_nor_torch(with_examples: Scratch) -> None:
    done = with_examples.run(
        with_examples.python,
        "-c",
        "import ascend_overlay, sys; ascend_overlay.enable(propagate=False); "
        "print([name for name in ('vllm', 'torch', 'transformers', 'acme_custom_model.model') if name in sys.modules])",
    )
    assert done.stdout == "[]\n"


def test_uninstalling_takes_the_overlay_away(scratch: Scratch) -> None:
    scratch.install(EXAMPLES / "custom_model")
    assert of(listed(scratch), "acme_custom_model")

    scratch.uninstall("acme-custom-model")

    assert not of(listed(scratch), "acme_custom_model")


@pytest.mark.parametrize(
    ("variables", "timeout_state", "skipped_profile"),
    [
        ({}, "skipped", "acme_watched"),
        ({"ACME_SLOW_STORAGE": "1", "ACME_WATCHED": "1"}, "pending", "acme_unattended"),
    ],
)
def test_conditions_ranges_and_a_resolved_conflict_are_listed(
    with_examples: Scratch, variables: dict[str, str], timeout_state: str, skipped_profile: str
) -> None:
    entries = listed(with_examples, **variables)
    serving = {entry["target"]: entry for entry in of(entries, "acme_serving")}

    old = serving["vllm.entrypoints.openai.tool_parsers.abstract_tool_parser:ToolParserManager.lazy_parsers"]
    assert (old["state"], "is for vllm <0.14" in old["reason"]) == ("skipped", True)
    new = serving["vllm.tool_parsers.abstract_tool_parser:ToolParserManager.lazy_parsers"]
    assert new["state"] == "pending"
    assert serving["vllm.v1.engine.core:HANDSHAKE_TIMEOUT_MINS"]["state"] == timeout_state
    in_workers = serving["vllm.model_executor.model_loader.base_loader:BaseModelLoader.load_model"]
    assert in_workers["reason"] == "not so that the process role is worker"

    states = {name: of(entries, name)[0]["state"] for name in ("acme_watched", "acme_unattended")}
    assert [name for name, state in states.items() if state == "skipped"] == [skipped_profile]
    assert sorted(states.values()) == ["pending", "skipped"]


def test_a_hook_vetoes_what_changes_the_scheduler(with_examples: Scratch, tmp_path: Path) -> None:
    (tmp_path / "stranger.py").write_text(
        """
from ascend_overlay import Overlay
from ascend_overlay.hooks import hookimpl

overlay = Overlay("stranger", reason="changes what the site protects")
overlay.wrap("vllm.v1.core.sched.scheduler:Scheduler.schedule", "stranger:wrapper")

@hookimpl
def ascend_overlay_overlays():
    return [overlay]
"""
    )
    variables = {"PYTHONPATH": str(tmp_path)}

    (vetoed,) = of(listed(with_examples, "--load", "stranger", **variables), "stranger")
    assert vetoed["state"] == "skipped"
    assert "is not on ACME_CERTIFIED" in vetoed["reason"]

    (allowed,) = of(listed(with_examples, "--load", "stranger", ACME_CERTIFIED="stranger", **variables), "stranger")
    assert allowed["state"] == "pending"


@pytest.fixture(scope="module")
def with_broken(tmp_path_factory: pytest.TempPathFactory) -> Scratch:
    """An environment with both examples, one of which has a plugin that cannot be imported."""
    environment = Scratch(tmp_path_factory.mktemp("broken"))
    environment.install(EXAMPLES / "custom_model")
    environment.install(EXAMPLES / "patch_only")
    (plugin,) = (environment.folder / "venv" / "lib").glob("python*/site-packages/acme_serving/plugin.py")
    plugin.write_text("import a_module_that_nobody_has\n")
    return environment


def test_a_broken_plugin_is_named_with_its_distribution(with_broken: Scratch) -> None:
    done = with_broken.run("ascend-overlay", "list", check=False)

    assert done.returncode != 0
    said = " ".join(done.stderr.split())
    assert "plugin 'acme_serving' of acme-serving 0.3.0 cannot be loaded" in said
    assert "No module named 'a_module_that_nobody_has'" in said
    assert "ASCEND_OVERLAY_PLUGINS=-acme_serving" in said
    assert "Traceback" not in said


def test_a_broken_plugin_leaves_the_others_alone_unless_strict(with_broken: Scratch) -> None:
    done = with_broken.run("ascend-overlay", "list", "--json", env={"ASCEND_OVERLAY_STRICT": "0"})
    entries = json.loads(done.stdout)["entries"]

    assert {entry["state"] for entry in of(entries, "acme_custom_model")} == {"pending"}
    (failure,) = [entry for entry in entries if entry["state"] == "failed"]
    assert (failure["kind"], failure["distribution"]) == ("plugin", "acme-serving")
    assert "plugin 'acme_serving' of acme-serving 0.3.0 cannot be loaded" in done.stderr


def test_the_advice_about_a_broken_plugin_helps(with_broken: Scratch) -> None:
    entries = listed(with_broken, ASCEND_OVERLAY_PLUGINS="-acme_serving")

    assert {entry["state"] for entry in of(entries, "acme_custom_model")} == {"pending"}
    (left_out,) = [entry for entry in entries if entry["kind"] == "plugin"]
    assert (left_out["state"], left_out["reason"]) == ("skipped", "blocked by ASCEND_OVERLAY_PLUGINS")
