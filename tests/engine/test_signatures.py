"""Which replacements are accepted: exactly those that take every call that the original takes."""

from __future__ import annotations

import contextlib
import importlib
import inspect
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.errors import OverlayError, SignatureError
from ascend_overlay.patches import signatures

COMPATIBLE = [
    ("(a, b)", "(a, b)"),
    ("(a, b)", "(a, b, c=1)"),
    ("(a, b)", "(a, b, *rest)"),
    ("(a, b)", "(*args, **kwargs)"),
    ("(a, b)", "(a, *args, **kwargs)"),
    ("(a, b=1)", "(a, b=2)"),
    ("(a, b)", "(a, b=2)"),
    ("(a, /, b)", "(x, /, b)"),
    ("(a, *, b)", "(a, *, b)"),
    ("(a, *, b)", "(a, b)"),
    ("(a, *, b)", "(a, **kwargs)"),
    ("(a, *, b, c=1)", "(a, *, c=2, b)"),
    ("(self, a)", "(this, a)"),
    ("(cls, a)", "(klass, a)"),
    ("(self, a)", "(*args, **kwargs)"),
    ("(*args, **kwargs)", "(*args, **kwargs)"),
    ("(a, *args)", "(a, *rest)"),
]
INCOMPATIBLE = [
    ("(a, b)", "(a)", "takes no positional argument 'b'"),
    ("(a, b)", "(a, c)", "'c' where the original has 'b'"),
    ("(a, b)", "(b, a)", "'b' where the original has 'a'"),
    ("(a, b)", "(a, b, c)", "needs an argument 'c'"),
    ("(a, b)", "(a, *, b)", "takes no positional argument 'b'"),
    ("(a, b)", "(a, **kwargs)", "takes no positional argument 'b'"),
    ("(a, b)", "(*args)", "by position only"),
    ("(a, b)", "(a, b, /)", "by position only"),
    ("(a, b=1)", "(a, b)", "'b' has no default"),
    ("(a, *, b)", "(a)", "takes no keyword argument 'b'"),
    ("(a, *, b)", "(a, *, c)", "takes no keyword argument 'b'"),
    ("(a, *, b=1)", "(a, *, b)", "'b' has no default"),
    ("(a, *, b)", "(a, *, b, c)", "needs an argument 'c'"),
    ("(a, *args)", "(a)", "takes no \\*args"),
    ("(a, **kwargs)", "(a, b=1)", "takes no \\*\\*kwargs"),
    ("(self, a)", "(self, b)", "'b' where the original has 'a'"),
    ("(self, a)", "()", "takes no positional argument 'self'"),
    ("(*args, **kwargs)", "(a, *args, **kwargs)", "needs an argument 'a'"),
]


def signature(text: str) -> inspect.Signature:
    namespace: dict[str, Any] = {}
    exec(f"def function{text}: pass", namespace)
    return inspect.signature(namespace["function"])


@pytest.mark.parametrize(("original", "replacement"), COMPATIBLE)
def test_compatible(original: str, replacement: str) -> None:
    assert signatures.mismatch(signature(original), signature(replacement)) is None


@pytest.mark.parametrize(("original", "replacement", "why"), INCOMPATIBLE)
def test_incompatible(original: str, replacement: str, why: str) -> None:
    found = signatures.mismatch(signature(original), signature(replacement))
    assert found is not None
    assert __import__("re").search(why, found), found


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize(
    ("target", "original"),
    [
        ("lib:run", "run(x, *, scale=1.0)"),
        ("lib:Thing.run", "run(self, x)"),
        ("lib:Thing.make", "make(cls, x)"),
        ("lib:Thing.plain", "plain(x)"),
        ("lib:Thing.size", "size(self)"),
    ],
)
def test_refused_with_both_signatures(offer: Any, site: Any, target: str, original: str, early: bool) -> None:
    site.write(
        {
            "lib.py": """
                def run(x, *, scale=1.0): return x
                class Thing:
                    def run(self, x): return x
                    @classmethod
                    def make(cls, x): return x
                    @staticmethod
                    def plain(x): return x
                    @property
                    def size(self): return 1
            """
        }
    )
    overlay = Overlay("one", reason="a test")

    @overlay.replace(target)
    def replacement(self: Any, other: Any, third: Any) -> None: ...

    offer(overlay, name="plug")
    if early:
        importlib.import_module("lib")
    with pytest.raises(SignatureError) as raised:
        ascend_overlay.enable()
        importlib.import_module("lib")
    text = str(raised.value)
    for part in (target, "overlay 'one'", "plugin 'plug'", f"original:    {original}", "replacement: replacement(self"):
        assert part in text, text


@pytest.mark.parametrize("early", [True, False], ids=["loaded", "not loaded"])
@pytest.mark.parametrize("ours", ["lambda wrapped: 1", "lambda wrapped, instance, *args, **kwargs: 1", "42"])
def test_a_wrapper_must_take_what_wrappers_are_called_with(offer: Any, site: Any, ours: str, early: bool) -> None:
    site.write({"lib.py": "def run(): return 'stock'\n", "wrapping.py": f"wrapper = {ours}\n"})
    overlay = Overlay("one", reason="a test")
    overlay.wrap("lib:run", "wrapping:wrapper")
    offer(overlay, name="plug")
    if early:
        importlib.import_module("lib")
    accepted = "*args" in ours
    wrong = contextlib.nullcontext() if accepted else pytest.raises(OverlayError, match=r"cannot wrap lib:run: it ")
    with wrong:
        ascend_overlay.enable()
        importlib.import_module("lib")
    assert importlib.import_module("lib").run() == (1 if accepted else "stock")


def test_a_wrapper_that_does_not_fit_is_refused_before_its_target_is_imported(offer: Any, site: Any) -> None:
    site.write({"lib.py": "def run(): return 'stock'\n"})
    overlay = Overlay("one", reason="a test")
    overlay.wrap("lib:run")(lambda wrapped, *args: wrapped(*args))
    overlay.wrap("lib:run")(lambda wrapped: wrapped())
    offer(overlay, name="plug")
    with pytest.raises(SignatureError, match=r"the signature \(wrapped\), and is called as wrapper\(wrapped, instance"):
        ascend_overlay.enable()


def test_callable_without_a_signature_is_let_through(offer: Any, site: Any) -> None:
    site.write({"lib.py": "run = {}.update\n"})
    overlay = Overlay("one", reason="a test")
    overlay.replace("lib:run")(lambda *args: "new")
    offer(overlay)
    lib = importlib.import_module("lib")
    ascend_overlay.enable()
    assert lib.run() == "new"
