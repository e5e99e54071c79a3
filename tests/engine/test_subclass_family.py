"""After `subclass`, isinstance, issubclass and except hold for classes derived before and after it."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay

TARGETS = """
    class Spec:
        def size(self): return 1
    class Sliding(Spec):
        def size(self): return 2
    class Plain(Spec): pass
    class Error(Exception):
        def text(self): return "stock"
    class Narrow(Error):
        def text(self): return "narrow"
    class Wide(Error, ValueError): pass
    def is_spec(value): return isinstance(value, Spec)
    def is_kind(cls): return issubclass(cls, Spec)
    def caught(error):
        try: raise error()
        except Error as found: return found.text()
"""
OURS = """
    from family import Spec, Error
    class OurSpec(Spec):
        def size(self): return 3
    class OurError(Error):
        def text(self): return "ours"
"""
LATER = """
    import family
    class Later(family.Spec): pass
    class Overriding(family.Spec):
        def size(self): return 5
    class Deeper(family.Sliding): pass
    class LaterError(family.Error): pass
    class LaterNarrow(family.Narrow): pass
"""


@pytest.mark.parametrize("early", [True, False])
def test_the_family_holds(site: Any, offer: Any, early: bool) -> None:
    site.write({"family.py": TARGETS, "our_family.py": OURS, "later.py": LATER})
    overlay = Overlay("one", reason="a test")
    overlay.subclass("family:Spec", "our_family:OurSpec")
    overlay.subclass("family:Error", "our_family:OurError")
    offer(overlay)
    if early:
        ascend_overlay.enable()
    family: Any = importlib.import_module("family")
    ascend_overlay.enable()
    later: Any = importlib.import_module("later")
    sizes = {"Spec": 3, "Sliding": 2, "Plain": 3, "Later": 3, "Overriding": 5, "Deeper": 2}
    errors = {"Error": "ours", "Narrow": "narrow", "Wide": "ours", "LaterError": "ours", "LaterNarrow": "narrow"}

    def cls(name: str) -> Any:
        return getattr(family, name, None) or getattr(later, name)

    for name, size in sizes.items():
        made = cls(name)()
        assert made.size() == size and family.is_spec(made) and family.is_kind(cls(name)), name
    for name, text in errors.items():
        assert family.caught(cls(name)) == text, name
    ascend_overlay.disable()
    for name, size in sizes.items():
        made = cls(name)()
        assert made.size() == (1 if size == 3 else size) and family.is_spec(made) and family.is_kind(cls(name)), name
    for name, text in errors.items():
        assert family.caught(cls(name)) == ("stock" if text == "ours" else text), name
    assert family.Wide.__bases__ == (family.Error, ValueError) and family.Plain.__bases__ == (family.Spec,)


RELATIVES = """
    import family, our_family
    class ByName(family.Spec): pass
    class OfOurs(our_family.OurSpec): pass
    class Again(family.Spec): pass
"""


@pytest.mark.parametrize("own", [0, 1, 2])
def test_who_was_derived_by_name_comes_back_beside_those_of_the_implementation(site: Any, offer: Any, own: int) -> None:
    ours = OURS + "".join(f"    class Own{number}(OurSpec): pass\n" for number in range(own))
    # One that another module has, under a name that is the target's there.
    ours_too = "import our_family\nSpec = our_family.OurSpec\nclass Other(Spec): pass\n"
    site.write({"family.py": TARGETS, "our_family.py": ours, "ours_too.py": ours_too, "relatives.py": RELATIVES})
    overlay = Overlay("one", reason="a test")
    overlay.subclass("family:Spec", "our_family:OurSpec")
    offer(overlay)
    family: Any = importlib.import_module("family")
    other = importlib.import_module("ours_too").Other if own else None
    ascend_overlay.enable()
    ours: Any = importlib.import_module("our_family")
    relatives: Any = importlib.import_module("relatives")
    ascend_overlay.disable()
    assert relatives.ByName.__bases__ == relatives.Again.__bases__ == (family.Spec,)
    assert relatives.OfOurs.__bases__ == (ours.OurSpec,)
    assert all(getattr(ours, f"Own{number}").__bases__ == (ours.OurSpec,) for number in range(own))
    assert other is None or other.__bases__ == (ours.OurSpec,)
