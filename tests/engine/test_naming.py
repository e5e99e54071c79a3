"""Something else where a name is due: each is an error that says what to write."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from ascend_overlay import Overlay, ref
from ascend_overlay.errors import ConfigError, TargetError
from ascend_overlay.places.target import Target


class Model:
    """A class at hand."""


def function(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> None:
    """Stand for a function at hand."""


HERE = __name__
CASES: list[tuple[Callable[[Overlay], object], str]] = [
    (lambda o: o.model("X", Model), f"the model class of X .*, here '{HERE}:Model', and got the class Model"),  # type: ignore[arg-type]
    (lambda o: o.model("X", sys), "got the module sys"),  # type: ignore[arg-type]
    (lambda o: o.model("X", None), r"got None \(NoneType\)"),  # type: ignore[arg-type]
    (lambda o: o.model(Model, "a:B"), "the name of a model architecture is a string.*class Model"),  # type: ignore[arg-type]
    (lambda o: o.model("", "a:B"), "is a string that is not empty"),
    (lambda o: o.model("X", "a.B"), "write it as 'package.module:Qualified.name'"),
    (lambda o: o.attention_backend("A", Model), f"the attention backend A .*'{HERE}:Model'"),  # type: ignore[arg-type]
    (lambda o: o.attention_backend(1, "a:B"), "the name of an attention backend is a string"),  # type: ignore[arg-type]
    (lambda o: o.quantization("q", None), r"the configuration of q is a class.*got None"),  # type: ignore[arg-type]
    (lambda o: o.quantization("q", sys), "got the module sys"),  # type: ignore[arg-type]
    (lambda o: o.quantization(None, "a:B"), "the name of a quantization method is a string"),  # type: ignore[arg-type]
    (lambda o: o.kernel(function, "a:b"), "the name of an operator of vllm.ir is a string"),  # type: ignore[arg-type]
    (lambda o: o.subclass("a:B", function), "what stands in for a:B is a class.*got the function function"),  # type: ignore[arg-type]
    (lambda o: o.subclass("a:B", sys), "got the module sys"),  # type: ignore[arg-type]
    (lambda o: o.subclass(Model, "a:B"), f"the class Model is not a target.*'{HERE}:Model'"),  # type: ignore[arg-type]
    (lambda o: o.wrap(function), r"write @overlay.wrap\('package.module:name'\) above the function function"),  # type: ignore[call-overload]
    (lambda o: o.replace(function), r"write @overlay.replace\("),  # type: ignore[call-overload]
    (lambda o: o.factory(function), r"write @overlay.factory\("),  # type: ignore[call-overload]
    (lambda o: o.wrap(None, "a:b"), r"None \(NoneType\) is not a target"),  # type: ignore[call-overload]
    (lambda o: o.replace(sys, "a:b"), "the module sys is not a target.*here 'sys:' and a name in it"),  # type: ignore[call-overload]
    (lambda o: o.attribute(Model, 1), "the class Model is not a target"),  # type: ignore[arg-type]
    (lambda o: o.add(1, 1), r"1 \(int\) is not a target"),  # type: ignore[arg-type]
    (lambda o: o.item({}, "k", 1), r"\{\} \(dict\) is not a target"),  # type: ignore[arg-type]
    (lambda o: o.entry([], 1), r"\[\] \(list\) is not a target"),  # type: ignore[arg-type]
    (lambda o: o.remove(Model), "the class Model is not a target"),  # type: ignore[arg-type]
    (lambda o: o.call(sys, do="a:b", undo="a:c"), "name of the module first.*got the module sys"),  # type: ignore[arg-type]
    (lambda o: o.call(function, do="a:b", undo="a:c"), "got the function function"),  # type: ignore[arg-type]
    (lambda o: o.module_alias("vllm.x", sys), "the module sys is no name of a module"),  # type: ignore[arg-type]
    (lambda o: o.module_alias(Model, "vllm.x"), "the class Model is no name of a module"),  # type: ignore[arg-type]
    (lambda o: ref(Model), f"ref.. takes the name of an object.*'{HERE}:Model'.*needs no ref"),  # type: ignore[arg-type]
    (lambda o: ref(None), r"got None \(NoneType\)"),  # type: ignore[arg-type]
    (lambda o: ref("no colon"), "is not a target"),
    (lambda o: ref("a.b.c"), r"is not a target.*Did you mean 'a\.b:c'\?"),
    (lambda o: ref("a.b.Some.method"), r"Did you mean 'a\.b:Some\.method'\?"),
    (lambda o: ref("a.b:Some:method"), r"Did you mean 'a\.b:Some\.method'\?"),
    (lambda o: ref("Some.method"), r"Did you mean 'Some:method'\?"),
    (lambda o: o.model("Some", "a.b:c:d"), r"is not a target.*Did you mean 'a\.b:c\.d'\?"),
    (lambda o: ref("nothing"), r"is not a target; write it as 'package.module:Qualified.name'\.$"),
    (lambda o: Target.parse(b"a:b"), "is not a target; write it as a string"),  # type: ignore[arg-type]
    (lambda o: o.wrap("a:b", 3), r"the wrapper of a:b is a function, or the name of one.*got 3 \(int\)"),  # type: ignore[call-overload]
    (lambda o: o.wrap("a:b")(None), r"the wrapper of a:b is a function.*got None"),  # type: ignore[type-var]
    (lambda o: o.replace("a:b")("x"), "'x' is not a target; write it as"),  # type: ignore[type-var]
    (lambda o: o.replace("a:b", b"a:c"), "what replaces a:b is a function"),  # type: ignore[call-overload]
    (lambda o: o.factory("a:B", ["a:b"]), "what builds a:B is a function"),  # type: ignore[call-overload]
    (lambda o: o.factory("a:B")(sys), "got the module sys"),  # type: ignore[type-var]
    (lambda o: o.kernel("rms_norm", None), "the implementation of rms_norm is a function"),  # type: ignore[arg-type]
    (lambda o: o.kernel("rms_norm", "a:b", provider=Model), "the name of the provider of rms_norm is a string"),  # type: ignore[arg-type]
    (lambda o: o.kernel("rms_norm", "a:b", supports_args=1), "takes its arguments is a function"),  # type: ignore[arg-type]
    (lambda o: o.call("a", do=3, undo="a:b"), "what is done for a is a function"),  # type: ignore[arg-type]
    (lambda o: o.call("a", do="a:b", undo=[]), "the undo of the call for a is a function"),  # type: ignore[arg-type]
    (lambda o: o.field("a:B.c", default_factory=3), "what makes the default of a:B.c is a function"),
    (lambda o: o.attribute("a:b", 1, reason=3), r"patch of a:b: reason= is a string, and got 3"),  # type: ignore[arg-type]
    (lambda o: Overlay("x", reason=None), "gives no reason"),  # type: ignore[arg-type]
    (lambda o: Overlay("x", reason=Model), "the reason of overlay 'x' is a string, and got the class Model"),  # type: ignore[arg-type]
    (lambda o: Overlay("x", reason="x", upstream=3), "upstream= of overlay 'x' is a string"),  # type: ignore[arg-type]
    (lambda o: Overlay("x", reason="x", retire=3), "retire= of overlay 'x' is a string"),  # type: ignore[arg-type]
    (lambda o: Overlay("x", reason="x", requires=["a"]), r"requires=\['a'\]; pass a mapping"),  # type: ignore[arg-type]
    (lambda o: Overlay("x", reason="x", after=3), "after=3; pass a list of names"),  # type: ignore[arg-type]
    (lambda o: Overlay(Model, reason="x"), "cannot name an overlay"),  # type: ignore[arg-type]
    (lambda o: Overlay("x", reason="x", after=[o]), r"overlays are given by name: after=\['o'\]"),  # type: ignore[list-item]
]


@pytest.mark.parametrize(("declare", "why"), CASES)
def test_refused(declare: Callable[[Overlay], object], why: str) -> None:
    overlay = Overlay("o", reason="a test")
    with pytest.raises((TargetError, ConfigError), match=f"(?s){why}"):
        declare(overlay)
    assert overlay.patches == ()


def test_a_ref_is_as_good_as_the_name() -> None:
    overlay = Overlay("o", reason="a test")
    overlay.model("X", ref("a:B"))  # type: ignore[arg-type]
    overlay.attention_backend("A", ref("a:B"))  # type: ignore[arg-type]
    overlay.subclass("a:B", ref("a:C"))  # type: ignore[arg-type]
    assert [patch.describe() for patch in overlay.patches] == ["served by a:B", "served by a:B", "subclassed by a:C"]
