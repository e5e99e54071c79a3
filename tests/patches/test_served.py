"""Classes that vLLM imports itself: of another kind, they are refused once they are there; misspelt names are told."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.errors import TargetError

MODELS, BACKENDS = "vllm.model_executor.models.registry", "vllm.v1.attention.backends.registry"
VLLM = {
    "vllm/model_executor/models/registry.py": """
        class Registry:
            models = {"Qwen3ForCausalLM": 1, "LlamaForCausalLM": 2}
            def register_model(self, architecture, implementation):
                self.models[architecture] = implementation
        ModelRegistry = Registry()
    """,
    "vllm/v1/attention/backend.py": "class AttentionBackend: pass\n",
    "vllm/v1/attention/backends/registry.py": """
        import enum
        class AttentionBackendEnum(enum.Enum):
            FLASH_ATTN = "vllm.flash.Backend"
        _ATTN_OVERRIDES = {}
        def register_backend(backend, path):
            if not isinstance(backend, str):
                _ATTN_OVERRIDES[backend] = path
                return
            cls = AttentionBackendEnum
            member = object.__new__(cls)
            member._name_ = member._value_ = backend
            cls._member_map_[backend] = cls._value2member_map_[backend] = member
            cls._member_names_.append(backend)
    """,
    "torch/nn/modules/module.py": "class Module: pass\n",
    "ours.py": """
        from torch.nn.modules.module import Module
        from vllm.v1.attention.backend import AttentionBackend
        class Model(Module): pass
        class Derived(Model): pass
        class Backend(AttentionBackend): pass
        class Other: pass
        def function(): pass
        class Outer:
            class Model(Module): pass
        globals().update(made=Model)
    """,
}
KINDS: dict[str, tuple[str, Callable[[Overlay, str], None]]] = {
    "model": (MODELS, lambda overlay, name: overlay.model("New", name)),
    "backend": (BACKENDS, lambda overlay, name: overlay.attention_backend("FLASH_ATTN", name)),
    "new backend": (BACKENDS, lambda overlay, name: overlay.attention_backend("MINE", name)),
}
UNFIT = [
    ("model", "ours:Other", "model architecture New .*ours:Other, which is a class of another kind: .*torch.nn.Module"),
    ("model", "ours:Backend", "ours:Backend, which is a class of another kind"),
    ("model", "ours:function", "ours:function, which is a function, not a class"),
    ("model", "ours:Outer.Modle", "no 'Modle' there. Did you mean 'Model'"),
    ("backend", "ours:Other", "attention backend FLASH_ATTN .*another kind: .*a subclass of vllm.AttentionBackend"),
    ("backend", "ours:Model", "ours:Model, which is a class of another kind"),
    ("new backend", "ours:function", "attention backend MINE .*ours:function, which is a function, not a class"),
]
FIT = [
    ("model", "ours:Model"),
    ("model", "ours:Derived"),
    ("model", "ours:Outer.Model"),
    ("model", "ours:made"),
    ("backend", "ours:Backend"),
    ("new backend", "ours:Backend"),
]


@pytest.fixture
def overlay(offer: Any, site: Any, monkeypatch: Any) -> Overlay:
    # Here torch and vLLM are what the test makes them.
    for name in [name for name in sys.modules if name.partition(".")[0] in ("torch", "vllm")]:
        monkeypatch.delitem(sys.modules, name)
    site.vllm("0.32.0", VLLM)
    overlay = Overlay("one", reason="a test")
    offer(overlay)
    return overlay


def _states() -> list[str]:
    return [entry.state for entry in ascend_overlay.ledger().of("one")]


@pytest.mark.parametrize(("kind", "name", "why"), UNFIT)
def test_another_kind_is_refused_where_it_is_loaded(overlay: Overlay, kind: str, name: str, why: str) -> None:
    registry, declare = KINDS[kind]
    declare(overlay, name)
    importlib.import_module(registry)
    before = _served(registry)
    ascend_overlay.enable()
    assert _states() == ["applied"] and "ours" not in sys.modules, "nothing is imported to be looked at"
    assert _served(registry) != before
    with pytest.raises(TargetError, match=f"overlay 'one' .*{why}"):
        importlib.import_module("ours")
    assert _states() == ["failed"] and _served(registry) == before


@pytest.mark.parametrize(("kind", "name", "why"), UNFIT)
def test_another_kind_that_is_there_is_refused_at_once(overlay: Overlay, kind: str, name: str, why: str) -> None:
    registry, declare = KINDS[kind]
    declare(overlay, name)
    importlib.import_module(registry)
    before = _served(registry)
    importlib.import_module("ours")
    with pytest.raises(TargetError, match=f"overlay 'one' .*{why}"):
        ascend_overlay.enable()
    assert _served(registry) == before


@pytest.mark.parametrize(("kind", "name"), FIT)
@pytest.mark.parametrize("first", [True, False])
def test_the_right_kind_is_served(overlay: Overlay, kind: str, name: str, first: bool) -> None:
    registry, declare = KINDS[kind]
    declare(overlay, name)
    if first:
        importlib.import_module("ours")
    ascend_overlay.enable()
    importlib.import_module(registry)
    importlib.import_module("ours")
    assert _states() == ["applied"]
    ascend_overlay.disable()
    importlib.reload(sys.modules["ours"])


def test_without_strictness_it_is_a_warning(overlay: Overlay) -> None:
    overlay.model("New", "ours:Other")
    ascend_overlay.enable(strict=False)
    importlib.import_module(MODELS)
    with pytest.warns(RuntimeWarning, match="which is a class of another kind"):
        importlib.import_module("ours")
    assert _states() == ["failed"]


def test_what_was_loaded_past_the_engine_is_seen_in_the_ledger(overlay: Overlay) -> None:
    overlay.model("New", "ours:Other")
    ascend_overlay.enable()
    importlib.import_module(MODELS)
    finders, sys.meta_path[:] = list(sys.meta_path), [each for each in sys.meta_path if "ascend" not in repr(each)]
    importlib.import_module("ours")
    sys.meta_path[:] = finders
    (entry,) = ascend_overlay.ledger().of("one")
    assert entry.state == "without effect" and "a class of another kind" in str(entry.notes)


NAMES = [
    ("model", "Qwen3ForCausalML", "Qwen3ForCausalLM"),
    ("model", "qwen3ForCausalLM", "Qwen3ForCausalLM"),
    ("model", "LamaForCausalLM", "LlamaForCausalLM"),
    ("model", "Qwen3ForCausalLM", None),
    ("model", "AcmeForSequenceClassification", None),
    ("backend", "FLASH_ATN", "FLASH_ATTN"),
    ("backend", "ACME", None),
]


@pytest.mark.parametrize(("kind", "name", "near"), NAMES)
def test_a_new_name_that_is_nearly_another_is_told(overlay: Overlay, kind: str, name: str, near: str | None) -> None:
    if kind == "model":
        overlay.model(name, "ours:Model")
    else:
        overlay.attention_backend(name, "ours:Backend")
    ascend_overlay.enable()
    importlib.import_module(MODELS if kind == "model" else BACKENDS)
    (entry,) = ascend_overlay.ledger().of("one")
    told = [note for note in entry.notes if "misspelt" in note]
    assert entry.state == "applied" and len(told) == (near is not None)
    assert near is None or (f"{name} is new to vLLM, which has the" in told[0] and f" {near}: " in told[0])


def _served(registry: str) -> Any:
    module: Any = sys.modules[registry]
    if registry == MODELS:
        return dict(module.ModelRegistry.models)
    return list(module.AttentionBackendEnum.__members__), dict(module._ATTN_OVERRIDES)
