"""The overlay `registry`: what is said about a registration, and what is known without importing the model."""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any

import pytest
from model_runs import Run, run

import ascend_overlay
from ascend_overlay.commands.demo.tiny import make_llama
from ascend_overlay.overlays.registry import checks, origin

MODELS = """
    from torch import nn
    from elsewhere import Parent, decorator
    from .base import Base, Plain as Renamed

    class Good(nn.Module):
        def get_input_embeddings(self, input_ids): ...
        def forward(self, input_ids, positions): ...
        def compute_logits(self, hidden_states): ...
        def load_weights(self, weights): ...

    class NewNames(nn.Module):
        embed_input_ids = Good.get_input_embeddings
        forward = compute_logits = load_weights = Good.forward

    class NoLogits(nn.Module):
        def embed_input_ids(self, input_ids): ...
        def forward(self, input_ids, positions): ...
        def load_weights(self, weights): ...

    class Misspelt(NoLogits):
        def compute_logit(self, hidden_states): ...

    class Bare(nn.Module):
        pass

    class Pooling(NoLogits):
        is_pooling_model = True

    class Inherits(Base):
        def load_weights(self, weights): ...

    class InheritsLittle(Base):
        pass

    class NoModule:
        pass

    class StillNoModule(Renamed):
        pass

    class Strange(Parent):
        pass

    @decorator
    class Decorated(nn.Module):
        pass

    class Added(nn.Module):
        pass

    for method in ("embed_input_ids", "forward", "compute_logits", "load_weights"):
        Added.embed_input_ids = Added.forward = Added.compute_logits = Added.load_weights = print

    try:
        from elsewhere import Either
    except ImportError:
        class Either:
            pass
"""

BASE = """
    import torch

    class Base(torch.nn.Module):
        def embed_input_ids(self, input_ids): ...
        def forward(self, input_ids, positions): ...
        def compute_logits(self, hidden_states): ...

    class Plain:
        pass
"""


@pytest.fixture
def package(site: Any) -> str:
    site.write(
        {
            "my_models/text.py": MODELS,
            "my_models/base.py": BASE,
            "my_models/lazy.py": "def __getattr__(name): return object\n",
            "my_models/made.py": "globals()['Made'] = type('Made', (), {})\n",
            "my_models/broken.py": "class Half(:\n",
            "my_models/everything.py": "from .text import *\n",
            "my_models/round.py": "from .about import Circle\n",
            "my_models/about.py": "from .round import Circle\n",
        }
    )
    return "my_models"


def defects(given: str, architecture: str = "MineForCausalLM") -> str:
    return " ".join(checks.defects(architecture, given))


@pytest.mark.parametrize(
    "name",
    ["Good", "NewNames", "Pooling", "Inherits", "Strange", "Decorated", "Added", "Either"],
)
def test_what_is_right_or_cannot_be_told_passes(package: str, name: str) -> None:
    assert defects(f"my_models.text:{name}") == ""
    assert not any(module.startswith("my_models") for module in sys.modules)


@pytest.mark.parametrize("given", ["lazy:Anything", "made:Made", "broken:Half", "everything:Whatever", "round:Circle"])
def test_modules_that_make_their_names_are_left_to_vllm(package: str, given: str) -> None:
    assert defects(f"my_models.{given}") == ""


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            "my_models.text:Good  ",
            (
                "there are blanks in 'my_models.text:Good  '; vLLM keeps them and would look for a class named "
                "'Good  '. Write 'my_models.text:Good'."
            ),
        ),
        (
            " my_models.text:Good",
            (
                "there are blanks in ' my_models.text:Good'; vLLM keeps them and would look for a module of that name. "
                "Write 'my_models.text:Good'."
            ),
        ),
        (
            "my_models.text.Good",
            "'my_models.text.Good' does not name a class; write it as 'package.module:Class'.",
        ),
        ("my_models:text:Good", "'my_models:text:Good' does not name a class; write it as 'package.module:Class'."),
        (
            "my_modles.text:Good",
            "the module 'my_modles.text' does not exist here: the package 'my_modles' is not installed.",
        ),
        (
            "my_models.txet:Good",
            (
                "the module 'my_models.txet' does not exist: 'my_models' has no such module. "
                "Did you mean 'my_models.text' or 'my_models.made' or 'my_models.base'?"
            ),
        ),
        ("my_models.text:Godd", "the module 'my_models.text' has no class 'Godd'. Did you mean 'Good'?"),
        (
            "my_models.text:NoModule",
            "my_models.text:NoModule is not a torch.nn.Module, so vLLM cannot run it; derive it from torch.nn.Module.",
        ),
        (
            "my_models.text:StillNoModule",
            (
                "my_models.text:StillNoModule is not a torch.nn.Module, so vLLM cannot run it; derive it from "
                "torch.nn.Module."
            ),
        ),
        (
            "my_models.text:NoLogits",
            "my_models.text:NoLogits has no compute_logits, which vLLM calls. Define it in the class.",
        ),
        (
            "my_models.text:Misspelt",
            (
                "my_models.text:Misspelt has no compute_logits, which vLLM calls. Did you mean 'compute_logit'? "
                "Define it in the class."
            ),
        ),
        (
            "my_models.text:Bare",
            (
                "my_models.text:Bare has no embed_input_ids or get_input_embeddings, no forward, no load_weights, "
                "no compute_logits, which vLLM calls. Define it in the class."
            ),
        ),
        (
            "my_models.text:InheritsLittle",
            "my_models.text:InheritsLittle has no load_weights, which vLLM calls. Define it in the class.",
        ),
    ],
)
def test_each_defect_is_a_sentence(package: str, given: str, sentence: str) -> None:
    assert defects(given) == sentence
    assert not any(module.startswith("my_models") for module in sys.modules)


def test_blanks_in_the_architecture(package: str) -> None:
    assert defects("my_models.text:Good", "MineForCausalLM ") == (
        "there are blanks in the name; it must equal the entry of 'architectures' in config.json, 'MineForCausalLM'."
    )


@pytest.mark.parametrize("architecture", ["MineModel", "MineForSequenceClassification", "EagleMineForCausalLM"])
def test_only_generating_models_need_logits(package: str, architecture: str) -> None:
    assert defects("my_models.text:NoLogits", architecture) == ""


def test_a_loaded_module_is_asked_itself(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("made_by_hand")
    module.Model = 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "made_by_hand", module)
    assert defects("made_by_hand:Model") == "made_by_hand:Model is a int, not a class."
    assert defects("made_by_hand:Modle") == ("the module 'made_by_hand' has no class 'Modle'. Did you mean 'Model'?")


def test_the_registrant_is_the_calling_module_and_its_distribution(site: Any) -> None:
    site.write({"bringer/__init__.py": "def bring(call):\n    return call()\n"})
    folder = site.folder / "bringer_models-1.2.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: bringer-models\nVersion: 1.2\n")
    (folder / "entry_points.txt").write_text("[vllm.general_plugins]\nmodels = bringer:bring\n")
    # As from inside the overlay's wrapper, whose own frames do not count.
    scope: dict[str, Any] = {"__name__": "ascend_overlay.overlays.registry", "registrant": origin.registrant}
    exec("def wrapper(): return registrant('MineForCausalLM')", scope)
    origin._distribution.cache_clear()
    bringer = importlib.import_module("bringer")
    assert bringer.bring(scope["wrapper"]) == "bringer (bringer-models 1.2)"
    sys.modules.pop("bringer")
    origin._distribution.cache_clear()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("register")
    checkpoint = make_llama(folder / "model", architectures=["LlamaForCausualLM"])
    return run("register.py", str(checkpoint), folder=folder)


WHO = "RegistrationError: the program (register.py) registers the model architecture"
LLAMA = "vllm.model_executor.models.llama:LlamaForCausalLM"
DEEPSEEK = "vllm.model_executor.models.deepseek_v2:DeepseekV2ForCausalLM"


@pytest.mark.vllm
def test_registrations_are_announced_once_with_who_and_over_what(real: Run) -> None:
    said = [
        line.partition("INFO ")[2] for line in real.output.splitlines() if " registered " in line and "INFO" in line
    ]
    assert [line for line in said if line.startswith("the program")] == [
        f"the program (register.py) registered {LLAMA} for NewForCausalLM, as a new architecture",
        f"the program (register.py) registered {DEEPSEEK} for NewForCausalLM, over {LLAMA}",
        f"the program (register.py) registered {LLAMA} for OtherForCausalLM, as a new architecture",
        f"the program (register.py) registered __main__:Plain for NewForCausalLM, over {DEEPSEEK}",
    ]
    assert {real.result[case] for case in ("new", "again", "over", "keywords", "class")} == {"registered"}


@pytest.mark.vllm
def test_announcements_go_through_vllms_logging_once_that_is_set_up(real: Run) -> None:
    [line] = [line for line in real.output.splitlines() if "TolerantForCausalLM, as a new" in line]
    assert line.startswith("(MainProcess pid=")
    assert line.endswith(f"the program (register.py) registered {LLAMA} for TolerantForCausalLM, as a new architecture")


@pytest.mark.vllm
@pytest.mark.parametrize(
    ("case", "error"),
    [
        (
            "blanks",
            (
                f"{WHO} 'DeepseekV2ForCausalLM': there are blanks in '{DEEPSEEK}  '; vLLM keeps them and would look "
                f"for a class named 'DeepseekV2ForCausalLM  '. Write '{DEEPSEEK}'."
            ),
        ),
        (
            "wrong class",
            (
                f"{WHO} 'DeepseekV2ForCausalLM': the module 'vllm.model_executor.models.deepseek_v2' has no class "
                f"'DeepseekV2ForCausualLM'. Did you mean 'DeepseekV2ForCausalLM' or 'DeepseekV3ForCausalLM' or "
                f"'DeepseekForCausalLM'?"
            ),
        ),
        (
            "wrong module",
            (
                f"{WHO} 'NewForCausalLM': the module 'vllm.model_executor.models.lama' does not exist: "
                f"'vllm.model_executor.models' has no such module. Did you mean 'vllm.model_executor.models.llama' or "
                f"'vllm.model_executor.models.llama4' or 'vllm.model_executor.models.mllama4'?"
            ),
        ),
        (
            "not a module",
            (
                f"{WHO} 'NewForCausalLM': json.decoder:JSONDecoder is not a torch.nn.Module, so vLLM cannot run it; "
                f"derive it from torch.nn.Module."
            ),
        ),
        (
            "not a module, class",
            (
                f"{WHO} 'NewForCausalLM': json.decoder:JSONDecoder is not a torch.nn.Module, so vLLM cannot run it; "
                f"derive it from torch.nn.Module."
            ),
        ),
        (
            "no logits",
            (
                f"{WHO} 'NewForCausalLM': __main__:NoLogits has no compute_logits, which vLLM calls. Define it in the "
                f"class."
            ),
        ),
        (
            "unregistered",
            (
                "RegistrationError: config.json names the model architecture 'LlamaForCausualLM', and nothing "
                "registers it with vLLM 0.32.0. Did you mean 'LlamaForCausalLM' or 'Llama4ForCausalLM' or "
                "'MambaForCausalLM'? If a plugin brings it, see that the plugin is installed and not left out "
                "(VLLM_PLUGINS, ASCEND_OVERLAY_PLUGINS); if it is yours, register it: "
                "ModelRegistry.register_model('LlamaForCausualLM', 'package.module:Class')."
            ),
        ),
    ],
)
def test_a_bad_registration_stops_then_and_there(real: Run, case: str, error: str) -> None:
    assert real.result[case] == error


@pytest.mark.vllm
def test_a_refused_registration_changes_nothing_and_imports_nothing(real: Run) -> None:
    assert real.result["kept"] == DEEPSEEK
    assert real.result["imported by the checks"] == []


@pytest.mark.vllm
def test_vllms_own_sentences_stay(real: Run) -> None:
    assert real.result["a number"].startswith("vLLM's TypeError: `model_cls` should be a string")
    assert "missing 1 required positional argument: 'model_cls'" in real.result["too few"]
    assert "was supported in vLLM until v0.28.0" in real.result["unsupported by now"]


@pytest.mark.vllm
def test_none_of_vllms_own_models_is_called_defective(real: Run) -> None:
    assert real.result["models"] > 300
    assert real.result["defects of vLLM's own models"] == {}


@pytest.mark.vllm
def test_without_strictness_it_is_a_warning_and_what_was_meant_is_registered(real: Run) -> None:
    assert real.result["tolerant, blanks"] == real.result["tolerant, module"] == "registered"
    assert real.result["tolerant, kept"] == LLAMA
    assert real.result["tolerant, unregistered"].startswith("vLLM's ValueError: Model architectures")
    blanks, module, unregistered = real.result["warnings"]
    assert f"Write '{LLAMA}'." in blanks
    assert "the package 'nowhere' is not installed" in module
    assert unregistered.startswith("config.json names the model architecture 'LlamaForCausualLM'")


@pytest.mark.vllm
def test_disable_restores_the_registry(real: Run) -> None:
    assert real.result["restored"]


@pytest.mark.vllm
@pytest.mark.parametrize(
    ("architectures", "by_keyword", "note"),
    [
        (["MineForCausalLM"], True, "MineForCausalLM: served by test_registry:Served"),
        (["MineForCausalLM", "Other"], False, "MineForCausalLM, Other: served by test_registry:Served"),
        (None, False, "a model without architectures: served by test_registry:Served"),
    ],
)
def test_which_class_serves_is_noted(
    architectures: list[str] | None, by_keyword: bool, note: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm.model_executor.model_loader import utils

    monkeypatch.setattr(Served, "__module__", "test_registry")
    model_config = types.SimpleNamespace(hf_config=types.SimpleNamespace(architectures=architectures))
    vllm_config = types.SimpleNamespace(model_config=model_config, quant_config=None)

    def build(vllm_config: Any, *, model_config: Any = None) -> Any:
        return Served()

    monkeypatch.setattr(utils, "initialize_model", build)
    with ascend_overlay.enabled(only=["registry"], propagate=False, foreign="accept"):
        if by_keyword:
            utils.initialize_model(vllm_config=vllm_config, model_config=model_config)
        else:
            utils.initialize_model(vllm_config)
        assert ("registry", note) in ascend_overlay.ledger().notes


class Served:
    """Stands for a model."""
