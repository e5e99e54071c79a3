"""The kinds of patch. The set is closed and small; each kind is frozen data with resolve, apply, revert, describe.

A kind is imported when an overlay first uses it: every process that enables overlays would pay for all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ascend_overlay import lazily
from ascend_overlay.patches.base import Applied, Context, Patch, Ref, ref

if TYPE_CHECKING:
    from ascend_overlay.patches.aliases import ModuleAlias
    from ascend_overlay.patches.attributes import AddAttribute, SetAttribute
    from ascend_overlay.patches.backends import AttentionBackend
    from ascend_overlay.patches.calls import Call
    from ascend_overlay.patches.classes import Subclass
    from ascend_overlay.patches.edits import Edit
    from ascend_overlay.patches.entries import Entry
    from ascend_overlay.patches.factories import Factory
    from ascend_overlay.patches.fields import Field
    from ascend_overlay.patches.kernels import Kernel, KernelPriority, kernel_patches
    from ascend_overlay.patches.members import Member
    from ascend_overlay.patches.names import Replace, Wrap
    from ascend_overlay.patches.registries import Model, Quantization, SetItem
    from ascend_overlay.patches.removals import Remove

__all__ = [
    "AddAttribute",
    "Applied",
    "AttentionBackend",
    "Call",
    "Context",
    "Edit",
    "Entry",
    "Factory",
    "Field",
    "Kernel",
    "KernelPriority",
    "Member",
    "Model",
    "ModuleAlias",
    "Patch",
    "Quantization",
    "Ref",
    "Remove",
    "Replace",
    "SetAttribute",
    "SetItem",
    "Subclass",
    "Wrap",
    "kernel_patches",
    "ref",
]

_HOMES = {
    "AddAttribute": "attributes",
    "AttentionBackend": "backends",
    "Call": "calls",
    "Edit": "edits",
    "Entry": "entries",
    "Factory": "factories",
    "Field": "fields",
    "Kernel": "kernels",
    "KernelPriority": "kernels",
    "Member": "members",
    "Model": "registries",
    "ModuleAlias": "aliases",
    "Quantization": "registries",
    "Remove": "removals",
    "Replace": "names",
    "SetAttribute": "attributes",
    "SetItem": "registries",
    "Subclass": "classes",
    "Wrap": "names",
    "kernel_patches": "kernels",
}


def __getattr__(name: str) -> Any:
    return lazily.load(__name__, _HOMES, name)
