"""Whatever is wrong with an overlay: the error names the overlay, the patch's target, and who contributes it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.conditions import Condition, distribution, env, predicate, role
from ascend_overlay.errors import ConfigError, ConflictError, OverlayError, PluginError

VLLM = {
    "vllm/lib.py": """
        import enum
        def run(): return "stock"
        class Layer:
            size = 1
            def call(self): return "stock"
        class Kind(enum.Enum):
            ONE = 1
        VALUE, TABLE, ENTRIES, NAMES = object(), {}, [], {"key": object()}
        """,
    "vllm/ir/ops.py": "",
    "vllm/config/kernel.py": "class KernelConfig:\n    def set_platform_defaults(self): pass\n",
    "vllm/model_executor/models/registry.py": "ModelRegistry = object()\n",
    "vllm/model_executor/layers/quantization.py": "def register_quantization_config(): pass\n",
    "vllm/v1/attention/backends/registry.py": "",
}
Declare = Callable[..., Any]
KINDS: dict[str, tuple[str, Declare]] = {
    "wrap": ("vllm.lib:run", lambda o, t, i, **k: o.wrap(t, i, **k)),
    "wrap decorates": ("vllm.lib:run", lambda o, t, i, **k: o.wrap(t, **k)(i)),
    "replace": ("vllm.lib:run", lambda o, t, i, **k: o.replace(t, i, **k)),
    "replace decorates": ("vllm.lib:run", lambda o, t, i, **k: o.replace(t, **k)(i)),
    "factory": ("vllm.lib:Layer", lambda o, t, i, **k: o.factory(t, i, **k)),
    "factory decorates": ("vllm.lib:Layer", lambda o, t, i, **k: o.factory(t, **k)(i)),
    "subclass": ("vllm.lib:Layer", lambda o, t, i, **k: o.subclass(t, i, **k)),
    "edit": ("vllm.lib:run", lambda o, t, i, **k: o.edit(t, find='return "stock"', put=i, **k)),
    "model": ("OurModel", lambda o, t, i, **k: o.model(t, i, **k)),
    "kernel": ("rms_norm", lambda o, t, i, **k: o.kernel(t, i, **k)),
    "supports_args": ("rms_norm", lambda o, t, i, **k: o.kernel(t, print, supports_args=i, **k)),
    "quantization": ("ours", lambda o, t, i, **k: o.quantization(t, i, **k)),
    "attention_backend": ("OURS", lambda o, t, i, **k: o.attention_backend(t, i, **k)),
    "module_alias": ("vllm.old", lambda o, t, i, **k: o.module_alias(t, i, **k)),
    "attribute": ("vllm.lib:VALUE", lambda o, t, i, **k: o.attribute(t, _ref(i), **k)),
    "add": ("vllm.lib:NEW", lambda o, t, i, **k: o.add(t, _ref(i), **k)),
    "item": ("vllm.lib:TABLE", lambda o, t, i, **k: o.item(t, "key", _ref(i), **k)),
    "entry": ("vllm.lib:ENTRIES", lambda o, t, i, **k: o.entry(t, _ref(i), **k)),
    "remove": ("vllm.lib:VALUE", lambda o, t, i, **k: o.remove(t, **k)),
    "call": ("vllm.lib", lambda o, t, i, **k: o.call(t, do=i, irreversible=True, **k)),
    "undo": ("vllm.lib", lambda o, t, i, **k: o.call(t, do=print, undo=i, **k)),
    "field": ("vllm.lib:Layer.size", lambda o, t, i, **k: o.field(t, default_factory=i, **k)),
    "member": ("vllm.lib:Kind.TWO", lambda o, t, i, **k: o.member(t, 2, **k)),
}
"""By kind: a target that is there, and how it is declared with an implementation."""
BY_VALUE = {"edit", "remove", "member"}
"""They are given no implementation."""
ANYTHING = {"attribute", "add", "item", "entry", "remove", "member"}
"""They take any value."""
REGISTERED = {"model", "kernel", "supports_args", "quantization", "attention_backend"}
"""Their target is a name of one's own, which may be any."""


def test_every_kind_is_in_the_table() -> None:
    kinds = {name for name, member in vars(Overlay).items() if callable(member) and not name.startswith("_")}
    assert kinds - {"watch"} == {kind.partition(" ")[0] for kind in KINDS} - {"supports_args", "undo"}


def _ref(implementation: Any) -> Any:
    return ascend_overlay.ref(implementation) if isinstance(implementation, str) else implementation


@pytest.fixture(autouse=True)
def _packages(site: Any) -> None:
    site.vllm("0.32.0", VLLM)
    site.write({"ours.py": "def there(*args): pass\nclass There: pass\n", "broken.py": "import no_such_thing\n"})


IMPLEMENTATION = {"edit": "return 1", "module_alias": "vllm.lib"}
MISTAKES: dict[str, tuple[Callable[[str], dict[str, Any]], set[str]]] = {
    "a range": (lambda kind: {"vllm": "new"}, set()),
    "a range that is a number": (lambda kind: {"vllm": 0.32}, set()),
    "a reason": (lambda kind: {"reason": 3}, set()),
    "a condition": (lambda kind: {"when": "worker"}, set()),
    "a role": (lambda kind: {"when": role("wroker")}, set()),
    "a role that is none": (lambda kind: {"when": ~role() & env("HOME")}, set()),
    "a range of a distribution": (lambda kind: {"when": env("HOME") | distribution("torch", "new")}, set()),
    "half a condition": (lambda kind: {"when": env("HOME") & "worker"}, set()),  # type: ignore[operator]
    "a predicate": (lambda kind: {"when": predicate(True, "it is so")}, set()),  # type: ignore[arg-type]
    "a variable": (lambda kind: {"when": env(3)}, set()),  # type: ignore[arg-type]
    "the target": (lambda kind: {"target": "vllm lib:run"}, REGISTERED),
    "no target at all": (lambda kind: {"target": None}, set()),
    "the implementation": (lambda kind: {"implementation": 3}, ANYTHING),
    "the implementation's name": (lambda kind: {"implementation": "no name"}, {*ANYTHING, "edit"}),
}
DECLARED = [(kind, what) for what, (_, but) in MISTAKES.items() for kind in KINDS if kind not in but]


@pytest.mark.parametrize(("kind", "what"), DECLARED)
def test_where_it_is_declared(kind: str, what: str) -> None:
    target, declare = KINDS[kind]
    made, _ = MISTAKES[what]
    options = made(kind)
    target = options.pop("target", target)
    implementation = options.pop("implementation", IMPLEMENTATION.get(kind, "ours:there"))
    if kind.endswith("decorates") and isinstance(implementation, str):
        implementation = importlib.import_module("ours").there
        if what == "the implementation's name":
            implementation = object()
    overlay = Overlay("one", reason="a test")
    with pytest.raises(OverlayError) as raised:
        declare(overlay, target, implementation, **options)
    told = str(raised.value)
    assert "overlay 'one'" in told and told.count("overlay 'one'") == 1
    assert target is None or target in told, told
    assert overlay.patches == ()


WHOLE: dict[str, tuple[dict[str, Any], str]] = {
    "a range": ({"vllm": "new"}, "version range 'new'"),
    "another range": ({"torch": "new"}, "(torch) has the version range 'new'"),
    "a package": ({"requires": {"two words": ">=1"}}, "requires 'two words'"),
    "a package that is a number": ({"requires": {3: ">=1"}}, "requires 3"),
    "retire": ({"retire": "soon"}, "(retire) has 'soon'"),
    "a marker": ({"upstream_marker": "no target"}, "'no target' is not a target"),
    "a marker that is a number": ({"upstream_marker": 3}, "3 (int) is not a target"),
    "a role": ({"when": role("wroker")}, "'wroker' is not the role of a process"),
    "a condition": ({"when": "worker"}, "has when='worker'"),
    "a joined condition": ({"when": ~(role("worker") & role("wroker"))}, "Did you mean 'worker'"),
    "what comes after": ({"after": "two"}, "pass a list"),
    "what comes before": ({"before": [3]}, "overlays are given by name"),
    "upstream": ({"upstream": 3}, "upstream="),
}


@pytest.mark.parametrize("what", WHOLE)
def test_where_the_overlay_is_declared(what: str) -> None:
    options, part = WHOLE[what]
    with pytest.raises(OverlayError) as raised:
        Overlay("one", **{"reason": "a test", **options})
    assert "overlay 'one'" in str(raised.value) and part in str(raised.value)


@pytest.mark.parametrize("made", [role("wroker"), distribution("torch", "new"), role(), env(3)])  # type: ignore[arg-type]
def test_a_condition_that_nobody_refused_is_no_answer(made: Condition) -> None:
    for condition in (made, ~made, made & env("HOME"), env("HOME") | made):
        assert condition.wrong
    with pytest.raises(ConfigError):
        made.why_not()


MISSING = {
    "the module": ("no_such.module:There", "'no_such'"),
    "the name": ("ours:Thre", "no 'Thre' there. Did you mean 'There'"),
    "what it imports": ("broken:There", "No module named 'no_such_thing'"),
}
LATER = {*BY_VALUE, *REGISTERED, "module_alias"}
"""What they name is looked at without importing it, or by vLLM."""
ABSENT = [
    (kind, what)
    for kind in KINDS
    for what in MISSING
    if kind not in BY_VALUE and (kind not in LATER or what == "the module") and "decorates" not in kind
]


def _refused(offer: Any, overlay: Overlay) -> OverlayError:
    """Return the error on an overlay 'one' that does not apply to a module which is loaded."""
    offer(overlay, name="plug")
    importlib.import_module("vllm.lib")
    with pytest.raises(OverlayError) as raised:
        ascend_overlay.enable()
    told = str(raised.value)
    assert told.startswith("overlay 'one' (plugin 'plug') does not apply to vLLM 0.32.0: "), told
    return raised.value


@pytest.mark.parametrize(("kind", "what"), ABSENT)
def test_an_implementation_that_is_not_there(offer: Any, kind: str, what: str) -> None:
    target, declare = KINDS[kind]
    name, part = MISSING[what]
    overlay = Overlay("one", reason="a test")
    declare(overlay, target, name.partition(":")[0] if kind == "module_alias" else name)
    error = _refused(offer, overlay)
    told = str(error)
    assert target in told and name.partition(":")[0] in told and part in told
    assert type(error) is not OverlayError


TARGETS = ["wrap", "replace", "factory", "subclass", "edit", "attribute", "item", "entry", "remove", "call", "member"]


@pytest.mark.parametrize("kind", [*TARGETS, "field", "add"])
@pytest.mark.parametrize("where", ["module", "name"])
def test_a_target_that_is_not_there(offer: Any, kind: str, where: str) -> None:
    _, declare = KINDS[kind]
    target = "vllm.lbi:Layer.run.x" if where == "module" else "vllm.lib:Layre.run.x"
    overlay = Overlay("one", reason="a test")
    implementation = IMPLEMENTATION.get(kind, "ours:There" if kind == "subclass" else "ours:there")
    declare(overlay, target, implementation)
    error = _refused(offer, overlay)
    told = str(error)
    assert target in told and ("Did you mean 'vllm.lib'" if where == "module" else "Did you mean 'Layer'") in told


def _twice(overlay: Overlay) -> None:
    for value in (1, 2):
        overlay.attribute("vllm.lib:VALUE", value, as_is=True)


def _raises() -> bool:
    raise ValueError("no idea")


TOGETHER: dict[str, tuple[Callable[[Overlay, Overlay], object], dict[str, Any], list[str]]] = {
    "it decides twice": (lambda one, two: _twice(one), {}, ["decides vllm.lib:VALUE more than once on vLLM 0.32.0"]),
    "two decide": (
        lambda one, two: [o.attribute("vllm.lib:VALUE", 1, as_is=True) for o in (one, two)],
        {},
        ["2 overlays decide vllm.lib:VALUE on vLLM 0.32.0", "two (plugin 'plug')"],
    ),
    "it is preferred for what it leaves alone": (
        lambda one, two: None,
        {"prefer": {"vllm.lib:VALUE": "one"}},
        ["is preferred for 'vllm.lib:VALUE' (prefer=)"],
    ),
    "its condition raises": (
        lambda one, two: one.add("vllm.lib:NEW", 1, when=predicate(_raises, "who knows")),
        {},
        ["the condition 'who knows' of overlay 'one'", "vllm.lib:NEW", "no idea"],
    ),
}


@pytest.mark.parametrize("what", TOGETHER)
def test_what_is_found_out_when_it_is_enabled(offer: Any, what: str) -> None:
    declare, arguments, parts = TOGETHER[what]
    one, two = Overlay("one", reason="a test"), Overlay("two", reason="a test")
    for overlay in (one, two):
        overlay.wrap("vllm.lib:run", "ours:there")
    declare(one, two)
    offer(one, two, name="plug")
    with pytest.raises((ConfigError, ConflictError)) as raised:
        ascend_overlay.enable(**arguments)
    told = str(raised.value)
    assert "(plugin 'plug')" in told and "one" in told
    for part in parts:
        assert part in told, told


def test_an_order_that_is_a_circle(offer: Any) -> None:
    for name, other in (("one", "two"), ("two", "one")):
        overlay = Overlay(name, reason="a test", after=[other])
        overlay.wrap("vllm.lib:run", "ours:there")
        offer(overlay, name=f"plug_{name}")
    with pytest.raises(ConfigError, match=r"form a circle: (one|two) \(plugin 'plug_(one|two)'\) -> "):
        ascend_overlay.enable()


@pytest.mark.parametrize("hook", [True, False])
def test_a_declaration_in_a_plugin(site: Any, hook: bool) -> None:
    """The plugin, its version and the line are named, too."""
    site.write(
        {
            "plug.py": f"""
                from ascend_overlay import Overlay
                from ascend_overlay.conditions import role
                from ascend_overlay.hooks import hookimpl
                def made():
                    one = Overlay("one", reason="a test")
                    one.wrap("vllm.lib:run", "ours:there", when=role("wroker"))
                    return [one]
                {"" if hook else "made()"}
                @hookimpl
                def ascend_overlay_overlays(): return made()
            """
        }
    )
    site.distribution("plug-dist", "1.2", {"plug": "plug"})
    with pytest.raises(PluginError) as raised:
        ascend_overlay.enable()
    for part in (
        "plugin 'plug' of plug-dist 1.2",
        "overlay 'one', patch of vllm.lib:run",
        "'wroker'",
        "plug.py, line 7)",
    ):
        assert part in str(raised.value), str(raised.value)
