"""Packages that are imported and not used: their modules have every name, and each name raises where it is called."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn


class _Name(type):
    """The class of a name: what is asked of one is another."""

    def __getattr__(cls, name: str) -> Any:
        return _named(f"{cls.__module__}.{cls.__qualname__}", name)

    def __call__(cls, *arguments: object, **options: object) -> NoReturn:
        raise NotImplementedError(
            f"{cls.__module__}.{cls.__qualname__} was called, for which vllm_ascend_stand_ins has a name and no code; "
            f"install the package, or serve a model that does without it."
        )


def _named(module: str, name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"{module} has no {name}: vllm_ascend_stand_ins stands in for it.")
    return _Name(name, (), {"__module__": module})


class _Module(ModuleType):
    def __getattr__(self, name: str) -> Any:
        return _named(self.__name__, name)


class Absent(MetaPathFinder, Loader):
    """Serves packages of these names, with whatever is below them. Asked last, so one that is installed wins."""

    def __init__(self, *packages: str) -> None:
        self.packages = packages
        sys.meta_path.append(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Answer for a package and all modules below it."""
        return ModuleSpec(fullname, self, is_package=True) if self._serves(fullname) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Make a module that has every name."""
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module as it is."""

    def remove(self) -> None:
        """Serve no more, and forget what was imported."""
        sys.meta_path.remove(self)
        for name in [
            name for name, module in sys.modules.items() if isinstance(module, _Module) and self._serves(name)
        ]:
            del sys.modules[name]

    def _serves(self, fullname: str) -> bool:
        return fullname.partition(".")[0] in self.packages


def of_cann() -> Absent:
    """Serve pyACL, which is called for sleep mode alone, and the compiled operators of linear attention."""
    return Absent("acl", "fla_npu")


def torchvision() -> Absent:
    """Serve torchvision, which the image processors of transformers are made of."""
    return Absent("torchvision")
