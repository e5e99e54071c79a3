"""The synthetic scene: a package with every kind of target, and overlays with every kind of patch."""

from __future__ import annotations

from .kinds import KINDS
from .scenes import DECIDES, WRAPS, Place, Probe, Scene

# Each module calls for its own description at its end, before anybody can have patched it.
_NOTED = "\nimport history_labels\nhistory_labels.noted(__name__)\n"

_LIB = """
def function(): return "function"
def second(): return "second"
def by_default(call=function): return call()
def by_keyword(*, call=second): return call()
class Base:
    def method(self): return "method"
    @staticmethod
    def static(): return "static"
    @classmethod
    def of_class(cls): return "of_class"
    @property
    def value(self): return "value"
class Thing(Base):
    def own(self): return "own"
class Child(Thing): pass
class Node:
    def size(self): return "size"
class Leaf(Node): pass
class Config: setting = "setting"
FLAG = OTHER = "flag"
TABLE = {"key": "entry", "call": function, "class": Node}
"""
_USER = """
import functools
from shop.lib import function, second, Thing, Child, Node
other = function
KEPT = (function, [Thing], {"node": Node})
FROZEN = frozenset([second])
PARTIAL = functools.partial(function)
DISPATCH = {second: "row"}
def caller(call): return call()
def keeper(call=second): return call()
class Holder:
    call = staticmethod(function)
    kinds = [Node]
"""
_LATE = """
from shop.lib import Node, Thing
class LateNode(Node): pass
class BigNode(Node):
    def size(self): return "big(" + super().size() + ")"
class LateThing(Thing):
    def own(self): return "late(" + super().own() + ")"
"""
_IMPLEMENTATIONS = """
from shop.lib import Node
class OurNode(Node):
    def size(self): return "sub_node(" + super().size() + ")"
def make_parcel():
    import shop.lib as lib
    class Heavy(lib.Parcel):
        def weight(self): return "make_p(" + super().weight() + ")"
    return Heavy()
"""
_PLUGIN = """
from ascend_overlay import Overlay
from ascend_overlay.hooks import hookimpl

overlays = []
def new(name, **options):
    overlays.append(Overlay(name, reason="a history", default=False, **options))
    return overlays[-1]
def wrap(overlay, target):
    name = overlay.name
    overlay.wrap(target)(lambda wrapped, instance, args, kwargs: f"{name}({wrapped(*args, **kwargs)})")

wrap(new("wrap_f"), "shop.lib:function")
wrap(new("again_f"), "shop.lib:function")
@new("put_g").replace("shop.lib:second")
def second(): return "put_g"
wrap(new("wrap_g"), "shop.lib:second")
wrap(new("wrap_m"), "shop.lib:Base.method")
wrap(new("inherited"), "shop.lib:Thing.method")
@new("put_own").replace("shop.lib:Thing.own")
def own(self): return "put_own"
wrap(new("wrap_own"), "shop.lib:Thing.own")
members = new("members")
for name in ("static", "of_class", "value"):
    wrap(members, f"shop.lib:Base.{name}")
new("sub_node").subclass("shop.lib:Node", "shop_implementations:OurNode")
wrap(new("wrap_size"), "shop.lib:Node.size")
values = new("values")
values.attribute("shop.lib:FLAG", "values")
values.attribute("shop.lib:Config.setting", "values")
values.add("shop.lib:Thing.added", "values")
values.add("shop.lib:EXTRA", "values")
new("row").item("shop.lib:TABLE", "key", "row")
new("new_row").item("shop.lib:TABLE", "new", "new_row")
new("alias").module_alias("shop.old", "shop.lib")
mixed = new("mixed")
wrap(mixed, "shop.lib:function")
wrap(mixed, "shop.lib:second")
wrap(mixed, "shop.lib:Thing.own")
mixed.item("shop.lib:TABLE", "mixed", "mixed")
mixed.add("shop.lib:MIXED", "mixed")
wrap(new("wrap_user"), "shop.user:caller")
faulty = new("faulty")
wrap(faulty, "shop.lib:function")
faulty.attribute("shop.lib:OTHER", "faulty")
wrap(faulty, "shop.lib:missing")
"""
_CONTRIBUTION = """
@hookimpl
def ascend_overlay_overlays():
    return overlays
"""


def _plugin() -> str:
    further = "".join(f"overlay = new({kind.name!r})\n{kind.plugin}\n" for kind in KINDS)
    return _PLUGIN + further + _CONTRIBUTION


F, G, OWN = "shop.lib:function", "shop.lib:second", "shop.lib:Thing.own"
SIZE, NODE = "shop.lib:Node.size", "shop.lib:Node"
METHOD, INHERITED = "shop.lib:Base.method", "shop.lib:Thing.method"

OVERLAYS = {
    "wrap_f": {F: WRAPS},
    "again_f": {F: WRAPS},
    "put_g": {G: DECIDES},
    "wrap_g": {G: WRAPS},
    "wrap_m": {METHOD: WRAPS},
    "inherited": {INHERITED: WRAPS},
    "put_own": {OWN: DECIDES},
    "wrap_own": {OWN: WRAPS},
    "members": {f"shop.lib:Base.{name}": WRAPS for name in ("static", "of_class", "value")},
    "sub_node": {NODE: WRAPS},
    "wrap_size": {SIZE: WRAPS},
    "values": {f"shop.lib:{name}": DECIDES for name in ("FLAG", "Config.setting", "Thing.added", "EXTRA")},
    "row": {"shop.lib:TABLE[key]": DECIDES},
    "new_row": {"shop.lib:TABLE[new]": DECIDES},
    "alias": {"shop.old": DECIDES},
    "mixed": {
        F: WRAPS,
        G: WRAPS,
        OWN: WRAPS,
        "shop.lib:TABLE[mixed]": DECIDES,
        "shop.lib:MIXED": DECIDES,
    },
    "wrap_user": {"shop.user:caller": WRAPS},
    "faulty": {F: WRAPS},
    **{kind.name: {kind.target: kind.decides} for kind in KINDS},
}

PROBES = (
    Probe("lib.function", "()", (F,)),
    Probe("lib.second", "()", (G,)),
    Probe("lib.Base", "().method()", (METHOD,)),
    Probe("lib.Thing", "().method()", (INHERITED, METHOD)),
    Probe("lib.Thing", "().own()", (OWN,)),
    Probe("lib.Base", ".static()", ("shop.lib:Base.static",)),
    Probe("lib.Base", ".of_class()", ("shop.lib:Base.of_class",)),
    Probe("lib.Base", "().value", ("shop.lib:Base.value",)),
    Probe("lib.Node", "().size()", (SIZE, NODE)),
    Probe("lib.Config", ".setting", ("shop.lib:Config.setting",)),
    Probe("lib", ".FLAG", ("shop.lib:FLAG",)),
    Probe("lib", ".__dict__.get('EXTRA')", ("shop.lib:EXTRA",)),
    Probe("lib", ".__dict__.get('MIXED')", ("shop.lib:MIXED",)),
    Probe("lib", ".Thing.__dict__.get('added')", ("shop.lib:Thing.added",)),
    Probe("lib", ".TABLE.get('key')", ("shop.lib:TABLE[key]",)),
    Probe("lib", ".TABLE.get('new')", ("shop.lib:TABLE[new]",)),
    Probe("lib", ".TABLE.get('mixed')", ("shop.lib:TABLE[mixed]",)),
    Probe("user.caller", "(lambda: 'answered')", ("shop.user:caller",)),
    # Copies and other ways to the same.
    Probe("lib.TABLE['call']", "()", (F,), ("TABLE",)),
    Probe("lib.TABLE['class']", "().size()", (SIZE, NODE), ("TABLE",)),
    Probe("lib.by_default.__defaults__[0]", "()", (F,), ("by_default",)),
    Probe("lib.by_keyword.__kwdefaults__['call']", "()", (G,), ("by_keyword",)),
    Probe("lib.Child", "().own()", (OWN,)),
    Probe("lib.Child", "().method()", (INHERITED, METHOD)),
    Probe("lib.Child", ".static()", ("shop.lib:Base.static",)),
    Probe("lib.Child", "().value", ("shop.lib:Base.value",)),
    Probe("lib.Leaf", "().size()", (SIZE, NODE), ("Leaf",)),
    Probe("user.function", "()", (F,), ("user.function",)),
    Probe("user.other", "()", (F,), ("user.other",)),
    Probe("user.KEPT[0]", "()", (F,), ("KEPT",)),
    Probe("user.KEPT[1][0]", "().own()", (OWN,), ("KEPT",)),
    Probe("user.KEPT[2]['node']", "().size()", (SIZE, NODE), ("KEPT",)),
    Probe("user.PARTIAL.func", "()", (F,), ("PARTIAL",)),
    Probe("user.Holder.call", "()", (F,), ("Holder",)),
    Probe("user.Holder.kinds[0]", "().size()", (SIZE, NODE), ("Holder",)),
    Probe("user.second", "()", (G,), ("user.second",)),
    Probe("next(iter(user.FROZEN))", "()", (G,), ("FROZEN",)),
    Probe("next(iter(user.DISPATCH))", "()", (G,), ("DISPATCH",)),
    Probe("user.keeper.__defaults__[0]", "()", (G,), ("keeper",)),
    Probe("user.Thing", "().own()", (OWN,), ("user.Thing",)),
    Probe("user.Child", "().own()", (OWN,), ("user.Child",)),
    Probe("user.Node", "().size()", (SIZE, NODE), ("user.Node",)),
    Probe("late.LateNode", "().size()", (SIZE, NODE), ("LateNode",)),
    Probe("late.BigNode", "().size()", (SIZE, NODE), ("BigNode",)),
    Probe("late.LateThing", "().own()", (OWN,), ("LateThing",)),
    *(probe for kind in KINDS for probe in kind.probes),
)

PLACES = {
    "function": Place("lib", "function", "function"),
    "second": Place("lib", "second", "function"),
    "method": Place("lib.Base", "method", "method"),
    "own": Place("lib.Thing", "own", "method"),
    "static": Place("lib.Base", "static", "static"),
    "value": Place("lib.Base", "value", "property"),
    "flag": Place("lib", "FLAG", "value"),
    "setting": Place("lib.Config", "setting", "value"),
    "row": Place("lib.TABLE", "key", "item"),
    "new_row": Place("lib.TABLE", "new", "item"),
    "size": Place("lib.Node", "size", "method"),
    "node": Place("lib", "Node", "class"),
    "user": Place("user", "function", "function"),
    **{kind.name: kind.place for kind in KINDS if kind.place is not None},
}

SHOP = Scene(
    name="shop",
    modules={"lib": "shop.lib", "user": "shop.user", "late": "shop.late"},
    files={
        "shop/__init__.py": "",
        "shop/lib.py": _LIB + "".join(kind.library for kind in KINDS) + _NOTED,
        "shop/user.py": _USER + _NOTED,
        "shop/late.py": _LATE + _NOTED,
        "shop_implementations.py": _IMPLEMENTATIONS,
        "shop_plugin.py": _plugin(),
    },
    plugin="shop_plugin",
    overlays=OVERLAYS,
    probes=PROBES,
    places=PLACES,
    copied=("lib.function", "lib.second", "lib.Node", "lib.Thing"),
    reloaded=("lib", "user", "late"),
    faulty=frozenset({"faulty"}),
    package="shop",
    aliases={"alias": "shop.old"},
)
