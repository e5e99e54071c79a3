"""What calls of well-known functions mean, where a patch can be made by them or hidden behind them."""

from __future__ import annotations

import re

SETTERS = {("setattr",), ("object", "__setattr__"), ("type", "__setattr__"), ("monkeypatch", "setattr")}
DELETERS = {("delattr",), ("object", "__delattr__"), ("type", "__delattr__")}
SHELLS = {
    "property": "property",
    "staticmethod": "staticmethod",
    "classmethod": "classmethod",
    "functools.cached_property": "cached_property",
    "cached_property": "cached_property",
    "functools.lru_cache": "lru_cache",
    "functools.cache": "cache",
}
"""What puts a function in a descriptor or another shell, by its name, or the way to it."""
TRANSPARENT = {"typing.cast": 1, "cast": 1, "functools.update_wrapper": 0, "inspect.unwrap": 0}
"""What returns one of its arguments, and which."""
WRAPT = {
    "wrapt.wrap_function_wrapper": (0, 1, 2),
    "wrapt.patches.wrap_function_wrapper": (0, 1, 2),
    "wrapt.wrap_object": (0, 1, 2),
    "wrapt.wrap_object_attribute": (0, 1, 2),
    "wrapt.patch_function_wrapper": (0, 1, -1),
    "wrapt.transient_function_wrapper": (0, 1, -1),
    "ddtrace.internal.utils.wrappers.wrap_function_wrapper": (0, 1, 2),
}
"""Functions of wrapt: the arguments that are the module, the name in it, and the wrapper; -1: what it decorates."""
IMPORTERS = {"importlib.import_module", "import_module", "__import__", "sys.modules.get"}
MOCKS = ("unittest.mock.patch", "mock.patch", "pytest.MonkeyPatch.setattr")
MUTATORS = {
    "append": "entry",
    "insert": "entry",
    "extend": "entry",
    "add": "entry",
    "appendleft": "entry",
    "update": "entry",
    "setdefault": "item",
    "pop": "remove",
    "popitem": "remove",
    "remove": "remove",
    "discard": "remove",
    "clear": "remove",
}
"""Methods that change a container in place, and what that is."""
_REGISTERS = re.compile(r"_?register(_|$)")
_NO_REGISTRY = {"register_forward_hook", "register_buffer", "register_parameter", "register_module_hook"}
_OF_REGISTRIES = re.compile(r"(Registry|REGISTRY|Factory|Manager|Library)$")


def is_class(name: str) -> bool:
    """Tell whether a name is written as those of classes are, whose methods are called by it now and then."""
    return bool(re.match(r"_*[A-Z]+[a-z]", name))


def registers(parts: tuple[str, ...]) -> bool:
    """Tell whether a function enters something in a registry, by its name."""
    name = parts[-1]
    if name in _NO_REGISTRY:
        return False
    if _REGISTERS.match(name):
        return True
    return len(parts) > 1 and name in ("add", "overwrite") and bool(_OF_REGISTRIES.search(parts[-2]))


WRITERS = {"write_text", "write_bytes"}
"""Methods of a path that write its file."""
COPIERS = {"shutil.copy", "shutil.copyfile", "shutil.copy2", "shutil.move", "os.replace", "os.rename", "os.symlink"}
"""Functions whose second argument is a file that they write."""
