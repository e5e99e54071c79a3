"""Models, quantization methods, attention backends and kernels, registered with a vLLM of the test's own.

Its registries behave as vLLM's do; how the real ones take what is registered is tested where vLLM is imported.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.errors import ConflictError, OverlayError, SignatureError, TargetError

MODELS = """
    class Entry:
        def __init__(self, module_name, class_name): self.module_name, self.class_name = module_name, class_name
    class Direct:
        def __init__(self, model_cls): self.model_cls = model_cls
    class Llama: pass
    class Registry:
        def __init__(self):
            self.models = {"Old": Entry("vllm.old", "Old"), "Direct": Direct(Llama), "Bare": Llama}
        def register_model(self, architecture, implementation):
            self.models[architecture] = Entry(*implementation.split(":"))
    ModelRegistry = Registry()
"""
QUANTIZATION = """
    from vllm.platforms import current_platform
    class QuantizationConfig: pass
    QUANTIZATION_METHODS = ["old"]
    _CUSTOMIZED_METHOD_TO_QUANT_CONFIG = {}
    def register_quantization_config(name):
        def register(cls):
            if name not in QUANTIZATION_METHODS:
                QUANTIZATION_METHODS.append(name)
                if current_platform.supported_quantization:
                    current_platform.supported_quantization.append(name)
            _CUSTOMIZED_METHOD_TO_QUANT_CONFIG[name] = cls
            return cls
        return register
"""
BACKENDS = """
    import enum
    class AttentionBackendEnum(enum.Enum):
        FLASH = "vllm.flash.Backend"
        CUSTOM = None
        @classmethod
        def register(cls, name, value):
            member = object.__new__(cls)
            member._name_, member._value_ = name, value
            setattr(cls, name, member)
            cls._member_map_[name] = cls._value2member_map_[value] = member
            cls._member_names_.append(name)
            return member
    _ATTN_OVERRIDES = {}
    def register_backend(backend, path):
        if isinstance(backend, str): backend = AttentionBackendEnum.register(backend, path)
        _ATTN_OVERRIDES[backend] = path
"""
OLDER_BACKENDS = """
    import enum
    class AttentionBackendEnum(enum.Enum):
        FLASH = "vllm.flash.Backend"
        CUSTOM = None
    _ATTN_OVERRIDES = {}
    def register_backend(backend, path): _ATTN_OVERRIDES[backend] = path
"""
SELECTOR = """
    import functools
    from vllm.v1.attention.backends.registry import AttentionBackendEnum, _ATTN_OVERRIDES
    @functools.cache
    def _cached_get_attn_backend(name):
        member = AttentionBackendEnum[name]
        return _ATTN_OVERRIDES.get(member, member.value)
"""
OPERATOR = """
    import inspect
    class Provided:
        def __init__(self, provider, function, supports_args, inplace):
            self.provider, self.function, self.supports_args, self.inplace = provider, function, supports_args, inplace
    class IrOp:
        registry = {}
        def __init__(self, native):
            self.native, self._priority_impls = native, []
            self.impls = {"native": Provided("native", native, None, False)}
            IrOp.registry[native.__name__] = self
        def register_impl(self, provider, *, supports_args=None, inplace=False):
            assert provider not in self.impls
            def register(function):
                if inspect.signature(function) != inspect.signature(self.native): raise ValueError("another schema")
                self.impls[provider] = Provided(provider, function, supports_args, inplace)
                return function
            return register
"""
OPERATORS = """
    from vllm.ir.op import IrOp
    def rms_norm(x, eps): return "native"
    def gelu(x): return "native"
    rms_norm, gelu = IrOp(rms_norm), IrOp(gelu)
"""
KERNEL_CONFIG = """
    class Priority:
        def __init__(self, **chosen): self.rms_norm, self.gelu = chosen.get("rms_norm"), chosen.get("gelu")
    class KernelConfig:
        def __init__(self, **chosen): self.ir_op_priority = Priority(**chosen)
        def set_platform_defaults(self, config):
            for name in ("rms_norm", "gelu"):
                chosen = getattr(self.ir_op_priority, name)
                defaults = [each for each in ("platform", "native") if each not in (chosen or ())]
                setattr(self.ir_op_priority, name, [*(chosen or ()), *defaults])
            return "done"
"""
OURS = """
    from vllm.model_executor.layers.quantization import QuantizationConfig
    class Model(type("Module", (), {"__module__": "torch.nn"})): pass
    class Config(QuantizationConfig): pass
    class NoConfig: pass
    class Backend: pass
    def rms_norm(x, eps): return "ours"
    def other(x): return "other"
    def supports(x, eps): return True
"""
UTILS = "_MODEL_ARCH_BY_HASH = {1: 'resolved'}\n"


@pytest.fixture(autouse=True)
def _packages(site: Any) -> None:
    site.vllm(
        "0.33.0",
        {
            "vllm/model_executor/models/registry.py": MODELS,
            "vllm/model_executor/model_loader/utils.py": UTILS,
            "vllm/model_executor/layers/quantization/__init__.py": QUANTIZATION,
            "vllm/platforms.py": "class current_platform: supported_quantization = ['old']\n",
            "vllm/v1/attention/backends/registry.py": BACKENDS,
            "vllm/v1/attention/selector.py": SELECTOR,
            "vllm/ir/op.py": OPERATOR,
            "vllm/ir/ops.py": OPERATORS,
            "vllm/config/kernel.py": KERNEL_CONFIG,
            "ours.py": OURS,
        },
    )


@pytest.fixture
def overlay(offer: Any) -> Overlay:
    overlay = Overlay("one", reason="a test")
    offer(overlay)
    return overlay


def load(module: str, *, early: bool = True) -> Any:
    if early:
        importlib.import_module(module)
    ascend_overlay.enable()
    return importlib.import_module(module)


early = pytest.mark.parametrize("early", [True, False])


# --- models -----------------------------------------------------------------------------------------------------------

MODEL_REGISTRY = "vllm.model_executor.models.registry"
PLACES = [
    ("New", []),
    ("Old", ["in place of vllm.old:Old"]),
    ("Direct", [f"in place of {MODEL_REGISTRY}:Llama"]),
    ("Bare", [f"in place of {MODEL_REGISTRY}:Llama"]),
]


@early
@pytest.mark.parametrize(("architecture", "notes"), PLACES)
def test_a_model_is_registered_and_goes_again(
    overlay: Overlay, early: bool, architecture: str, notes: list[str]
) -> None:
    overlay.model(architecture, "ours:Model")
    resolved = importlib.import_module("vllm.model_executor.model_loader.utils")._MODEL_ARCH_BY_HASH
    models = load(MODEL_REGISTRY, early=early).ModelRegistry.models
    assert (models[architecture].module_name, models[architecture].class_name) == ("ours", "Model")
    assert "ours" not in sys.modules, "vLLM imports the class, where it needs it"
    (entry,) = ascend_overlay.ledger()
    assert (entry.state, entry.seam, entry.notes) == ("applied", "ModelRegistry", notes)
    assert entry.detail == "served by ours:Model"
    # What was resolved by another class is resolved again, with the overlay and after it.
    assert resolved == {}
    resolved[2] = "resolved"
    ascend_overlay.disable()
    assert resolved == {} and list(models) == ["Old", "Direct", "Bare"]
    assert type(models["Old"]).__name__ == "Entry" and models["Old"].module_name == "vllm.old"


def test_a_model_where_nobody_has_resolved_one(overlay: Overlay) -> None:
    overlay.model("New", "ours:Model")
    assert "New" in load(MODEL_REGISTRY).ModelRegistry.models
    assert "vllm.model_executor.model_loader.utils" not in sys.modules


@pytest.mark.parametrize(
    ("implementation", "why"),
    [
        ("nowhere:Model", "model architecture New: .*'nowhere' is not installed"),
        (
            "ours:Modell",
            "model architecture New: the implementation ours:Modell does not exist: .*Did you mean 'Model'",
        ),
    ],
)
def test_a_model_that_does_not_exist(overlay: Overlay, implementation: str, why: str) -> None:
    overlay.model("New", implementation)
    with pytest.raises(TargetError, match=why):
        ascend_overlay.enable()


# --- quantization methods ---------------------------------------------------------------------------------------------

METHODS = "vllm.model_executor.layers.quantization"


@pytest.mark.parametrize("supported", [["old"], []], ids=["a list", "no list"])
@pytest.mark.parametrize("method", ["new", "old"])
def test_a_quantization_method(overlay: Overlay, method: str, supported: list[str]) -> None:
    platform = importlib.import_module("vllm.platforms").current_platform
    platform.supported_quantization = supported
    before = list(supported)
    overlay.quantization(method, "ours:Config")
    methods = load(METHODS)
    ours = importlib.import_module("ours").Config
    known = {"old": ["old"], "new": ["old", "new"]}[method]
    assert {method: ours} == methods._CUSTOMIZED_METHOD_TO_QUANT_CONFIG and known == methods.QUANTIZATION_METHODS
    assert supported == (known if before else [])
    (entry,) = ascend_overlay.ledger()
    assert (entry.state, entry.seam, entry.detail) == (
        "applied",
        "quantization registry",
        "configured by ours:Config",
    )
    # Somebody may have been quicker.
    if method == "new":
        methods.QUANTIZATION_METHODS.remove("new")
    ascend_overlay.disable()
    assert methods._CUSTOMIZED_METHOD_TO_QUANT_CONFIG == {} and methods.QUANTIZATION_METHODS == ["old"]
    assert supported == before


@pytest.mark.parametrize("name", ["NoConfig", "other"])
def test_what_is_no_quantization_config(overlay: Overlay, name: str) -> None:
    overlay.quantization("new", f"ours:{name}")
    with pytest.raises(TargetError, match=f"ours:{name} cannot be the quantization method 'new': it is not a subclass"):
        load(METHODS)
    assert sys.modules[METHODS].QUANTIZATION_METHODS == ["old"]


# --- attention backends -----------------------------------------------------------------------------------------------

BACKEND_REGISTRY = "vllm.v1.attention.backends.registry"


@early
@pytest.mark.parametrize("takes_names", [True, False], ids=["takes new names", "knows its own members only"])
def test_a_new_attention_backend_is_a_member_and_leaves_no_trace(
    overlay: Overlay, site: Any, early: bool, takes_names: bool
) -> None:
    if not takes_names:
        site.write({"vllm/v1/attention/backends/registry.py": OLDER_BACKENDS})
    overlay.attention_backend("MINE", "ours:Backend")
    names = load(BACKEND_REGISTRY, early=early).AttentionBackendEnum
    registry = sys.modules[BACKEND_REGISTRY]
    for _ in range(2):
        assert names["MINE"] is names.MINE is names("ours.Backend") and names.MINE in list(names)
        # Without an entry beside, a member of an older vLLM stands for its value.
        assert ({names.MINE: "ours.Backend"} if takes_names else {}) == registry._ATTN_OVERRIDES
        assert names.MINE.value == "ours.Backend" and "ours" not in sys.modules
        (entry,) = ascend_overlay.ledger()
        assert (entry.state, entry.seam, entry.notes) == ("applied", "attention backend registry", [])
        ascend_overlay.disable()
        assert list(names) == [names.FLASH, names.CUSTOM] and names._member_names_ == ["FLASH", "CUSTOM"]
        assert not hasattr(names, "MINE") and "ours.Backend" not in names._value2member_map_
        assert registry._ATTN_OVERRIDES == {}
        ascend_overlay.enable()


@pytest.mark.parametrize("before", [None, "theirs.Backend"])
@pytest.mark.parametrize("name", ["FLASH", "CUSTOM"])
def test_an_attention_backend_in_the_place_of_another(overlay: Overlay, name: str, before: str | None) -> None:
    overlay.attention_backend(name, "ours:Backend")
    registry: Any = importlib.import_module(BACKEND_REGISTRY)
    member = registry.AttentionBackendEnum[name]
    if before is not None:
        registry._ATTN_OVERRIDES[member] = before
    load(BACKEND_REGISTRY)
    assert {member: "ours.Backend"} == registry._ATTN_OVERRIDES
    (entry,) = ascend_overlay.ledger()
    assert entry.notes == ([] if before is None else ["in place of 'theirs.Backend'"])
    ascend_overlay.disable()
    assert ({} if before is None else {member: before}) == registry._ATTN_OVERRIDES


def test_the_backend_that_vllm_chose_is_chosen_again(overlay: Overlay) -> None:
    overlay.attention_backend("FLASH", "ours:Backend")
    selector: Any = importlib.import_module("vllm.v1.attention.selector")
    assert selector._cached_get_attn_backend("FLASH") == "vllm.flash.Backend"
    with ascend_overlay.enabled():
        assert selector._cached_get_attn_backend("FLASH") == "ours.Backend"
    assert selector._cached_get_attn_backend("FLASH") == "vllm.flash.Backend"


@pytest.mark.parametrize("selector", ["def _cached_get_attn_backend(name): ...\n", ""])
def test_a_selector_that_remembers_nothing(overlay: Overlay, site: Any, selector: str) -> None:
    site.write({"vllm/v1/attention/selector.py": selector})
    overlay.attention_backend("FLASH", "ours:Backend")
    importlib.import_module("vllm.v1.attention.selector")
    load(BACKEND_REGISTRY)
    assert ascend_overlay.ledger().entries[0].state == "applied"


def test_a_backend_that_is_gone_already_is_taken_back_all_the_same(overlay: Overlay) -> None:
    overlay.attention_backend("MINE", "ours:Backend")
    names = load(BACKEND_REGISTRY).AttentionBackendEnum
    names._member_names_.remove("MINE")
    type.__delattr__(names, "MINE")
    ascend_overlay.disable()
    assert list(names.__members__) == ["FLASH", "CUSTOM"] and sys.modules[BACKEND_REGISTRY]._ATTN_OVERRIDES == {}


@pytest.mark.parametrize("implementation", ["nowhere:Backend", "ours:Bakend"])
def test_a_backend_that_does_not_exist(overlay: Overlay, implementation: str) -> None:
    overlay.attention_backend("MINE", implementation)
    with pytest.raises(
        TargetError, match=f"attention backend MINE: .*{implementation.partition(':')[2]}|MINE: .*nowhere"
    ):
        ascend_overlay.enable()


# --- kernels ----------------------------------------------------------------------------------------------------------


@early
@pytest.mark.parametrize(("supports", "inplace"), [(None, False), ("ours:supports", True)])
def test_a_kernel_is_a_provider(overlay: Overlay, early: bool, supports: str | None, inplace: bool) -> None:
    overlay.kernel("rms_norm", "ours:rms_norm", provider="mine", supports_args=supports, inplace=inplace)
    operator = load("vllm.ir.ops", early=early).rms_norm
    importlib.import_module("vllm.config.kernel")
    ours = importlib.import_module("ours")
    provided = operator.impls["mine"]
    assert list(operator.impls) == ["native", "mine"]
    assert (provided.function, provided.inplace) == (ours.rms_norm, inplace)
    assert provided.supports_args is (ours.supports if supports else None)
    operator._priority_impls = [provided, operator.impls["native"]]
    kernel, priority = ascend_overlay.ledger()
    assert (kernel.state, kernel.seam, kernel.detail) == (
        "applied",
        "vllm.ir provider",
        "provider 'mine': ours:rms_norm",
    )
    assert (priority.state, priority.detail) == ("applied", "rms_norm: 'mine' before the platform's defaults")
    ascend_overlay.disable()
    assert list(operator.impls) == ["native"] and operator._priority_impls == [operator.impls["native"]]


CHOSEN = [
    ({}, ["mine", "platform", "native"]),
    ({"rms_norm": ["theirs"]}, ["theirs", "mine", "platform", "native"]),
    ({"rms_norm": ["native", "mine"]}, ["native", "mine", "platform"]),
]


@pytest.mark.parametrize(("chosen", "expected"), CHOSEN)
def test_a_kernel_comes_behind_what_the_user_chose(
    overlay: Overlay, chosen: dict[str, list[str]], expected: list[str]
) -> None:
    overlay.kernel("rms_norm", "ours:rms_norm", provider="mine")
    importlib.import_module("vllm.ir.ops")
    config = load("vllm.config.kernel").KernelConfig(**chosen)
    assert config.set_platform_defaults(None) == "done"
    assert (config.ir_op_priority.rms_norm, config.ir_op_priority.gelu) == (expected, ["platform", "native"])


REFUSED: list[tuple[tuple[str, str], str, type[OverlayError], str]] = [
    (
        ("rms_nrom", "ours:rms_norm"),
        "mine",
        TargetError,
        r"no operator 'rms_nrom'; it has gelu, rms_norm\. Did you mean 'rms_norm'",
    ),
    (("rms_norm", "ours:rms_norm"), "native", ConflictError, "ops.rms_norm provider native is registered already"),
    (
        ("rms_norm", "ours:other"),
        "mine",
        SignatureError,
        "ours:other cannot implement vllm.ir.ops.rms_norm: another schema",
    ),
]


@pytest.mark.parametrize(("kernel", "provider", "error", "why"), REFUSED)
def test_a_kernel_that_cannot_be(
    overlay: Overlay, kernel: tuple[str, str], provider: str, error: type[OverlayError], why: str
) -> None:
    overlay.kernel(*kernel, provider=provider)
    importlib.import_module("vllm.config.kernel")
    with pytest.raises(error, match=why):
        load("vllm.ir.ops")
    assert list(sys.modules["vllm.ir.ops"].rms_norm.impls) == ["native"]


def test_two_overlays_with_one_provider_are_a_conflict(overlay: Overlay, offer: Any) -> None:
    other = Overlay("two", reason="a test")
    offer(other)
    for each in (overlay, other):
        each.kernel("rms_norm", "ours:rms_norm", provider="mine")
    with pytest.raises(ConflictError, match=r"vllm.ir.ops.rms_norm provider mine"):
        ascend_overlay.enable()


# --- what somebody else registers -------------------------------------------------------------------------------------


def model_of_theirs() -> tuple[Any, Any]:
    registry = importlib.import_module(MODEL_REGISTRY).ModelRegistry
    registry.register_model("New", "theirs:Model")
    return registry.models, "New"


def backend_of_theirs() -> tuple[Any, Any]:
    registry = importlib.import_module(BACKEND_REGISTRY)
    registry.register_backend(registry.AttentionBackendEnum.FLASH, "theirs.Backend")
    return registry._ATTN_OVERRIDES, registry.AttentionBackendEnum.FLASH


def method_of_theirs() -> tuple[Any, Any]:
    methods = importlib.import_module(METHODS)
    methods.register_quantization_config("new")(type("Theirs", (methods.QuantizationConfig,), {}))
    return methods._CUSTOMIZED_METHOD_TO_QUANT_CONFIG, "new"


REGISTERED = {
    "model": (lambda o: o.model("New", "ours:Model"), model_of_theirs),
    "backend": (lambda o: o.attention_backend("FLASH", "ours:Backend"), backend_of_theirs),
    "quantization": (lambda o: o.quantization("new", "ours:Config"), method_of_theirs),
}


@pytest.mark.parametrize("kind", REGISTERED)
def test_what_somebody_registers_in_its_place_stays(overlay: Overlay, kind: str) -> None:
    declare, register = REGISTERED[kind]
    declare(overlay)
    for module in (MODEL_REGISTRY, BACKEND_REGISTRY, METHODS):
        importlib.import_module(module)
    ascend_overlay.enable(foreign="accept")
    registry, name = register()
    theirs = registry[name]
    (entry,) = ascend_overlay.ledger()
    assert entry.state == "displaced"
    ascend_overlay.disable()
    assert registry[name] is theirs


ENTRIES = {
    "model": (lambda o: o.model("New", "ours:Model"), (f"{MODEL_REGISTRY}:ModelRegistry.models", "New")),
    "quantization": (
        lambda o: o.quantization("new", "ours:Config"),
        (f"{METHODS}:_CUSTOMIZED_METHOD_TO_QUANT_CONFIG", "new"),
    ),
}


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
@pytest.mark.parametrize("kind", ENTRIES)
def test_an_entry_of_the_registry_itself_decides_the_same(
    overlay: Overlay, offer: Any, kind: str, order: tuple[str, str]
) -> None:
    declare, place = ENTRIES[kind]
    declare(overlay)
    other = Overlay("two", reason="a test")
    other.item(*place, ascend_overlay.ref("ours:Model"))
    offer(other)
    for module in (MODEL_REGISTRY, METHODS):
        importlib.import_module(module)
    ascend_overlay.enable(only=[order[0]])
    with pytest.raises(ConflictError, match=f"same thing as the entry .*, which overlay '{order[0]}' .* decides al"):
        ascend_overlay.enable(only=[order[1]])
