"""Names that a module certainly does not have: whatever it may have after all is never among them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from ascend_overlay.source.absence import absent
from ascend_overlay.source.modules import Tree
from ascend_overlay.source.sources import Sources

HAVING = {
    "class": "class Model: pass",
    "in a branch": "if True:\n    class Model: pass\nelse:\n    Model = None",
    "assigned": "Model = type('Other', (), {})",
    "imported": "from pack.other import Model",
    "imported as": "from pack.other import Other as Model",
    "star": "from pack.many import *",
    "loop": "for Model in (int, str): pass",
    "walrus": "print(end='') if (Model := int) else None",
    "context": "import contextlib\nwith contextlib.nullcontext(int) as Model: pass",
    "pattern": "match int:\n    case Model: pass",
    "of a function": "def make():\n    global Model\n    Model = int\nmake()",
    "globals": "globals()['Mo' + 'del'] = int",
    "globals by another name": "names = globals\nnames()['Mo' + 'del'] = int",
    "vars": "vars()['Mo' + 'del'] = int",
    "locals": "locals()['Mo' + 'del'] = int",
    "exec": "exec('class Mod' + 'el: pass')",
    "setattr": "import sys\nsetattr(sys.modules[__name__], 'Mo' + 'del', int)",
    "setattr of object": "import sys\nsys.modules[__name__].__setattr__('Mo' + 'del', int)",
    "dictionary": "import pack.module as me\nme.__dict__['Mo' + 'del'] = int",
    "by itself": "import pack.module as me\nme.Model = int",
    "another module": "import sys as s, types\ns.modules[__name__] = types.SimpleNamespace(**{'Mo' + 'del': int})",
    "modules": "from sys import modules as m\nimport pack.other\nm[__name__] = pack.other",
    "on demand": "def __getattr__(name):\n    return int",
    "on demand, by another": "from pack.many import lazy as __getattr__",
}
OTHERS = {
    "pack/other.py": "class Model: pass\nOther = Model\n",
    "pack/many.py": "class Model: pass\ndef lazy(name): return int\n",
}


@pytest.mark.parametrize("kind", list(HAVING))
def test_a_name_that_is_there_is_never_called_absent(site: Any, kind: str) -> None:
    site.write({**OTHERS, "pack/module.py": HAVING[kind] + "\n"})
    assert absent("pack.module", "Model") is None
    # The check of this test: it is there indeed.
    importlib.import_module("pack.module")
    assert sys.modules["pack.module"].Model is not None
    assert absent("pack.module", "Model") is None


def test_a_package_can_give_a_name_to_its_module(site: Any) -> None:
    site.write({"pack/module.py": ""})
    (site.folder / "pack" / "__init__.py").write_text("import pack.module\npack.module.Model = int\n")
    assert absent("pack.module", "Model") is None


def test_a_name_that_was_given_to_a_loaded_module_is_there(site: Any) -> None:
    site.write({"pack/module.py": ""})
    assert absent("pack.module", "Model") == []
    module: Any = importlib.import_module("pack.module")
    assert absent("pack.module", "Model") == []
    module.Model = int
    assert absent("pack.module", "Model") is None


def test_what_is_there_instead_is_told_and_nothing_is_imported(site: Any) -> None:
    text = "from a import b as OtherModel, c\nclass Models:\n    def run(self): return self.parts\nraise SystemExit\n"
    site.write({"pack/module.py": text})
    assert absent("pack.module", "Model") == ["Models", "OtherModel", "c"]
    assert "pack" not in sys.modules


def test_what_this_process_loaded_says_nothing_about_another_tree(site: Any, tmp_path: Path) -> None:
    site.write({"pack/module.py": "class Model: pass\n"})
    importlib.import_module("pack.module")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "module.py").write_text("class Older: pass\n")
    assert absent("pack.module", "Model", Sources(Tree(tmp_path / "other", "pack"))) == ["Older"]
    assert absent("pack.module", "Model") is None


@pytest.mark.parametrize("module", ["itertools", "_json", "pack", "pack.nothing", "pack.broken", "no_such_package"])
def test_without_python_source_nothing_is_certain(site: Any, module: str) -> None:
    (site.folder / "pack").mkdir()
    (site.folder / "pack" / "broken.py").write_text("class (\n")
    assert absent(module, "Model") is None
