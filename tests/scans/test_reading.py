"""Each shape of a hand-made patch, as a small package, and what is found in it."""

from __future__ import annotations

from typing import Any

import pytest

SHAPES: dict[str, tuple[Any, list[str]]] = {
    "a function of a module": ("import vllm.scheduler\nvllm.scheduler.pick = print", ["attribute vllm.scheduler.pick"]),
    "by an alias": ("import vllm.scheduler as s\ns.LIMIT = 9", ["attribute vllm.scheduler.LIMIT"]),
    "a method": (
        "from vllm.scheduler import Scheduler\ndef schedule(self, r): ...\nScheduler.schedule = schedule",
        ["attribute vllm.scheduler.Scheduler.schedule"],
    ),
    "an imported instance": (
        "from vllm.scheduler import scheduler\nscheduler.queue = []",
        ["attribute vllm.scheduler.scheduler.queue"],
    ),
    "in a function": (
        "def apply_patches():\n    from vllm.scheduler import Scheduler\n    Scheduler.queue = 1",
        ["attribute vllm.scheduler.Scheduler.queue"],
    ),
    "a local variable": (
        "import vllm.scheduler\ndef apply():\n    target = vllm.scheduler.Scheduler\n    target.queue = 1",
        ["attribute vllm.scheduler.Scheduler.queue"],
    ),
    "a loop over targets": (
        "from vllm import engine, scheduler\nfor each in (engine, scheduler):\n    each.pick = print",
        ["attribute vllm.engine.pick", "attribute vllm.scheduler.pick"],
    ),
    "a loop over a dictionary": (
        (
            "from vllm import scheduler\nNEW = {'pick': print, 'LIMIT': 3}\n"
            "for name, value in NEW.items():\n    setattr(scheduler, name, value)"
        ),
        ["attribute vllm.scheduler.pick", "attribute vllm.scheduler.LIMIT"],
    ),
    "setattr": ("from vllm import scheduler\nsetattr(scheduler, 'pick', print)", ["attribute vllm.scheduler.pick"]),
    "setattr of a name that is worked out": (
        "from vllm import scheduler\ndef f(name):\n    setattr(scheduler, name, print)",
        ["attribute vllm.scheduler.?"],
    ),
    "a helper": (
        {
            "help": "def put(owner, name, value):\n    setattr(owner, name, value)",
            "patch": "from vllm import scheduler\nfrom .help import put\nput(scheduler, 'pick', print)",
        },
        ["attribute vllm.scheduler.pick"],
    ),
    "a helper that takes text": (
        (
            "import importlib\ndef put(path, value):\n    module, name = path.rsplit('.', 1)\n"
            "    setattr(importlib.import_module(module), name, value)\nput('vllm.scheduler.pick', print)"
        ),
        ["attribute vllm.scheduler.pick"],
    ),
    "a decorator": (
        (
            "from vllm.scheduler import Scheduler\ndef patch(owner):\n    def decorate(f):\n"
            "        setattr(owner, f.__name__, f)\n        return f\n    return decorate\n"
            "@patch(Scheduler)\ndef schedule(self, r): ..."
        ),
        ["attribute vllm.scheduler.Scheduler.schedule"],
    ),
    "a class decorator": (
        (
            "from vllm.scheduler import Scheduler\ndef merge(owner):\n    def decorate(cls):\n"
            "        for name, value in vars(cls).items():\n            setattr(owner, name, value)\n"
            "    return decorate\n"
            "@merge(Scheduler)\nclass Mine:\n    def add(self, r): ...\n    queue = 3"
        ),
        ["attribute vllm.scheduler.Scheduler.add", "attribute vllm.scheduler.Scheduler.queue"],
    ),
    "a class body merged into a target": (
        (
            "from vllm.scheduler import Scheduler\nclass Patch:\n    def __class_getitem__(cls, target): ...\n"
            "    @classmethod\n    def apply(cls):\n        for n, v in cls.__dict__.items():\n"
            "            setattr(cls.target, n, v)\n"
            "class Mine(Patch[Scheduler]):\n    _old = Scheduler.add\n    def add(self, r):\n        self._old(r)"
        ),
        ["attribute vllm.scheduler.Scheduler._old", "wrap vllm.scheduler.Scheduler.add"],
    ),
    "a subclass hook": (
        (
            "from vllm.scheduler import Scheduler\nclass Patch:\n    def __init_subclass__(cls, target):\n"
            "        for n, v in cls.__dict__.items():\n            setattr(target, n, v)\n"
            "class Mine(Patch, target=Scheduler):\n    def add(self, r): ..."
        ),
        ["attribute vllm.scheduler.Scheduler.add"],
    ),
    "a patcher object": (
        (
            "from vllm.scheduler import Scheduler\nclass Patcher:\n    def __init__(self, owner):\n"
            "        self.owner = owner\n    def put(self, name, value):\n        setattr(self.owner, name, value)\n"
            "Patcher(Scheduler).put('add', print)"
        ),
        ["attribute vllm.scheduler.Scheduler.add"],
    ),
    "a wrapper around what was there": (
        (
            "from vllm.scheduler import Scheduler\n_old = Scheduler.add\ndef add(self, r):\n    return _old(self, r)\n"
            "Scheduler.add = add"
        ),
        ["wrap vllm.scheduler.Scheduler.add"],
    ),
    "a wrapper that a function makes": (
        (
            "import functools\nfrom vllm import scheduler\ndef around(f):\n    @functools.wraps(f)\n"
            "    def inner(*a):\n"
            "        return f(*a)\n    return inner\nscheduler.pick = around(scheduler.pick)"
        ),
        ["wrap vllm.scheduler.pick"],
    ),
    "put back": (
        "from vllm import scheduler\nold = scheduler.pick\nscheduler.pick = print\nscheduler.pick = old",
        ["attribute vllm.scheduler.pick"],
    ),
    "wrapt": (
        "import wrapt\ndef w(f, i, a, k): ...\nwrapt.wrap_function_wrapper('vllm.scheduler', 'Scheduler.add', w)",
        ["wrap vllm.scheduler.Scheduler.add"],
    ),
    "a decorator of wrapt": (
        "import wrapt\n@wrapt.patch_function_wrapper('vllm.scheduler', 'pick')\ndef w(f, i, a, k): ...",
        ["wrap vllm.scheduler.pick"],
    ),
    "unittest.mock": (
        (
            "from unittest.mock import patch\nfrom vllm.scheduler import Scheduler\n"
            "patch('vllm.scheduler.pick', print)\n"
            "with patch.object(Scheduler, 'add', print):\n    pass"
        ),
        ["mock vllm.scheduler.pick", "mock vllm.scheduler.Scheduler.add"],
    ),
    "an entry of a dictionary": (
        "from vllm.scheduler import TABLE\nTABLE['two'] = 2\nTABLE.update({'three': 3})\nTABLE.pop('one')",
        ["item vllm.scheduler.TABLE 'two'", "entry vllm.scheduler.TABLE", "remove vllm.scheduler.TABLE 'one'"],
    ),
    "an entry of a list": ("from vllm import scheduler\nscheduler.NAMES.append('x')", ["entry vllm.scheduler.NAMES"]),
    "a list that grows in place": (
        "from vllm.scheduler import NAMES, LIMIT\nNAMES += ['x']\nLIMIT += 1",
        ["entry vllm.scheduler.NAMES"],
    ),
    "del": (
        "import vllm.scheduler as s\ndel s.LIMIT\ndelattr(s, 'pick')",
        ["remove vllm.scheduler.LIMIT", "remove vllm.scheduler.pick"],
    ),
    "the __dict__ of a module": (
        "from vllm import scheduler\nscheduler.__dict__['pick'] = print",
        ["attribute vllm.scheduler.pick"],
    ),
    "sys.modules": (
        "import sys\nfrom acme import other\nsys.modules['vllm.gone'] = other\ndel sys.modules['vllm.scheduler']",
        ["module vllm.gone", "module vllm.scheduler"],
    ),
    "a loop over sys.modules": (
        (
            "import sys\nfor name, module in list(sys.modules.items()):\n    if 'vllm' in name:\n"
            "        module.pick = print"
        ),
        ["attribute vllm.*.pick"],
    ),
    "a layer registered": (
        "from vllm.layers.custom_op import CustomOp\n@CustomOp.register_oot(name='RMSNorm')\nclass Mine: ...",
        ["registration vllm.layers.custom_op.CustomOp.register_oot 'RMSNorm'"],
    ),
    "layers registered in a loop": (
        (
            "from vllm.layers.custom_op import CustomOp\nclass Mine: ...\nOPS = {}\ndef go():\n    global OPS\n"
            "    OPS = {'RMSNorm': Mine}\n    OPS.update({'Other': Mine})\n    OPS['More'] = Mine\n"
            "    for name, op in OPS.items():\n        CustomOp.register_oot(op, name=name)"
        ),
        [f"registration vllm.layers.custom_op.CustomOp.register_oot {key!r}" for key in ("RMSNorm", "Other", "More")],
    ),
    "a model registered": (
        "from vllm.models import ModelRegistry\nModelRegistry.register_model('Acme', 'acme.patch:Model')",
        ["registration vllm.models.ModelRegistry.register_model 'Acme'"],
    ),
    "a member of an enumeration": (
        "from aenum import extend_enum\nfrom vllm.enums import Status\nextend_enum(Status, 'OLD', 2)",
        ["member vllm.enums.Status.OLD"],
    ),
    "a file rewritten": (
        (
            "from pathlib import Path\nimport vllm\npath = Path(vllm.__file__).parent / 'scheduler.py'\n"
            "path.write_text(path.read_text().replace('8', '9'))"
        ),
        ["file vllm.scheduler"],
    ),
    "a file rewritten with open": (
        (
            "import os, vllm\nwith open(os.path.join(os.path.dirname(vllm.__file__), 'engine.py'), 'w') as f:\n"
            "    f.write('')"
        ),
        ["file vllm.engine"],
    ),
    "through a module of the package": (
        {
            "names": "from vllm.scheduler import Scheduler as Theirs",
            "patch": "from acme.names import Theirs\nTheirs.queue = 1",
        },
        ["attribute vllm.scheduler.Scheduler.queue"],
    ),
    "getattr and cast": (
        (
            "from typing import cast, Any\nimport vllm.scheduler\n"
            "cast(Any, getattr(vllm.scheduler, 'Scheduler')).queue = 1"
        ),
        ["attribute vllm.scheduler.Scheduler.queue"],
    ),
    "either of two": (
        (
            "try:\n    from vllm.scheduler import Scheduler\nexcept ImportError:\n    from vllm.old import Scheduler\n"
            "Scheduler.queue = 1"
        ),
        ["attribute vllm.scheduler.Scheduler.queue", "attribute vllm.old.Scheduler.queue"],
    ),
}
NONE: dict[str, str] = {
    "an object that vLLM makes": "from vllm.scheduler import make\nmade = make()\nmade.queue = 1",
    "an argument": "import vllm.scheduler\ndef f(config: vllm.scheduler.Scheduler):\n    config.queue = 1",
    "its own class": "from vllm.scheduler import Scheduler\nclass Mine(Scheduler): ...\nMine.queue = 1",
    "its own name": "from vllm.scheduler import pick\npick = print",
    "a package that is called alike": "import vllm_other.scheduler\nvllm_other.scheduler.pick = print",
    "another's": "import torch\ntorch.x = 1  # not vllm",
    "its own subscripted base": (
        "from typing import Generic\nfrom vllm.scheduler import Scheduler\nclass A(Generic[Scheduler]):\n    x = 1"
    ),
}


@pytest.mark.parametrize("shape", list(SHAPES))
def test_what_is_found(reading: Any, shape: str) -> None:
    given, expected = SHAPES[shape]
    found = [f"{each.kind} {'.'.join(each.target.parts)} {each.key}".rstrip() for each in reading(given).findings]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("shape", list(NONE))
def test_what_is_none(reading: Any, shape: str) -> None:
    assert reading(NONE[shape]).findings == []


def test_where_and_how_sure(reading: Any) -> None:
    helper = "def put(owner, value):\n    owner.pick = value\n"
    found = reading(
        {
            "help": helper,
            "patch": "import vllm.scheduler\nfrom acme.help import put\n\ndef go():\n    put(vllm.scheduler, len)\n",
        }
    )
    (one,) = found.findings
    assert str(one.place) == "acme/patch.py:5" and str(one.via) == "acme/help.py:2" and one.within == "go"
    assert one.sure == "likely" and one.by == "assignment"


def test_conditions_and_branches(reading: Any) -> None:
    one, two = reading(
        "import vllm.scheduler as s\nimport os\nif os.name == 'x':\n    s.pick = len\nelse:\n    s.pick = print\n"
    ).findings
    assert one.conditions == ("os.name == 'x'",) and two.conditions == ("not (os.name == 'x')",)
    assert one.excludes(two)


def test_a_package_that_calls_itself_forever_is_left(reading: Any) -> None:
    text = "import vllm.scheduler as s\ndef a(x):\n    b(x)\n    b(x)\ndef b(x):\n    a(x)\n    x.pick = 1\na(s)\n"
    assert [each.kind for each in reading(text).findings] == ["attribute"]
