"""The kinds of patch. The set is closed and small; each kind is frozen data with resolve, apply, revert, describe."""

from ascend_overlay.patches.aliases import ModuleAlias
from ascend_overlay.patches.backends import AttentionBackend
from ascend_overlay.patches.base import Applied, Context, Patch, Ref, ref
from ascend_overlay.patches.calls import Call
from ascend_overlay.patches.classes import Subclass
from ascend_overlay.patches.edits import Edit
from ascend_overlay.patches.entries import Entry
from ascend_overlay.patches.factories import Factory
from ascend_overlay.patches.fields import Field
from ascend_overlay.patches.kernels import Kernel, KernelPriority
from ascend_overlay.patches.members import Member
from ascend_overlay.patches.names import AddAttribute, Replace, SetAttribute, Wrap
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
    "ref",
]
