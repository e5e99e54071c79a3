"""All hooks: the manual of the plugin author.

Hooks run inside enable(), inside the import of a target, and inside disable(); keep them short, import nothing heavy in
them, and let them raise only what should stop the program. An exception in a hook becomes a PluginError that names the
plugin and its distribution; with ``strict=False`` it is a warning and the other plugins go on. A hook that contributes
something returns a list, and [] for nothing: None is taken for a forgotten return.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ascend_overlay.hooks.markers import hookspec

if TYPE_CHECKING:
    from ascend_overlay.ledgers import Entry
    from ascend_overlay.npu.case import LayerCase, OperatorCase
    from ascend_overlay.overlay import Overlay
    from ascend_overlay.quantization.scheme import ExpertsScheme, LinearScheme


@hookspec
def ascend_overlay_overlays() -> Iterable[Overlay]:  # type: ignore[empty-body]
    """Contribute overlays.

    Called once per process, at the first enable(), before anything is patched. All plugins are asked. Two overlays of
    one name are a PluginError that names both plugins.
    """


@hookspec(firstresult=True)
def ascend_overlay_select(overlay: Overlay) -> str | None:
    """Veto an overlay: return the reason as a phrase, or None to let it pass.

    Called for each overlay that the user's selection and the version ranges admit. The first reason wins; the overlay
    is in the ledger as skipped, with the reason and without having touched anything.
    """


@hookspec(firstresult=True)
def ascend_overlay_resolve_conflict(target: str, overlays: Sequence[Overlay]) -> str | None:
    """Decide which of several overlays may decide `target`: return its name, or None to leave it to others.

    Called when two enabled overlays replace one target and the user's `prefer` setting does not name it. The first
    name wins; the losing overlays are skipped as a whole. Without an answer, enable() raises a ConflictError.
    """


@hookspec
def ascend_overlay_applied(entry: Entry) -> None:
    """Told after a patch was applied and what others hold was re-bound, with its ledger entry.

    Told again where a module is executed once more and patched anew. The entry is a living one: it is "applied" here,
    and goes on to say so only as long as the users of the target meet the patch. Nothing is told when a patch turns out
    to be without effect: the ledger says that. All plugins are told, here and below; the result is ignored.
    """


@hookspec
def ascend_overlay_displaced(entry: Entry) -> None:
    """Told once of each change of somebody else's on a patched place, when it is first seen.

    The entry says how it stands: "displaced" where the users of the target do not meet the patch any more, "applied"
    where the change goes around it, as a wrapper does; `entry.foreign()` has who, where and when. It is a copy. What
    was in the place before the patch came is in its notes, and not told. Told whatever the setting `foreign` says, and
    from wherever the ledger is read or written, at exit, too: so what a plugin raises here is a warning.
    """


@hookspec
def ascend_overlay_failed(entry: Entry, error: BaseException) -> None:
    """Told after a patch failed and its overlay was taken back, before the error is raised or warned about.

    The patches of that overlay which were applied already are told to `ascend_overlay_reverted` first.
    """


@hookspec
def ascend_overlay_reverted(entry: Entry) -> None:
    """Told after a patch was taken back that had changed its target: it was applied, displaced or without effect.

    By disable(), because its overlay failed or lost a conflict, or because enable() failed or was interrupted. A patch
    that is taken back only to be applied to another class at once is told of here and then as applied. One whose
    target refuses to be changed back is not told of before it has been.
    """


@hookspec
def ascend_overlay_lock() -> str | os.PathLike[str]:  # type: ignore[empty-body]
    """Return the path of the overlay.lock that this plugin comes with.

    Called where vLLM is newer than what a version range of one of its overlays admits. Is it also newer than every
    release in the lock, an overlay applies as to the newest of those if nothing that it rests on has changed since;
    else what changed is the reason why it is skipped.
    """


@hookspec
def ascend_overlay_platforms() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Contribute a platform for vLLM: the name of the overlay that belongs to it, and the path "package.module.Class".

    Called where vLLM looks for its platform and torch_npu is installed, in every process. Answer {} where the devices
    are not there. vLLM gets the first platform whose overlay the settings ask for and nothing rules out; the overlays
    are enabled then, if they are not yet.
    """


@hookspec
def ascend_overlay_kernels() -> Iterable[Any]:  # type: ignore[empty-body]
    """Contribute reference kernels (`ascend_overlay.npu.ReferenceKernel`) for NPU operators.

    Called by each `ascend_overlay.npu.load()`, with torch imported. A name that exists already with another schema is
    an error.
    """


@hookspec
def ascend_overlay_quantization_schemes() -> Iterable[LinearScheme | ExpertsScheme]:  # type: ignore[empty-body]
    """Contribute quantization schemes (`ascend_overlay.quantization`) for checkpoints in ModelSlim's format.

    Called while the layers of such a model are built, with torch and vLLM imported. Two schemes of one type for one
    kind of layer are an error that names both plugins.
    """


@hookspec
def ascend_overlay_linear_layers() -> Iterable[str]:  # type: ignore[empty-body]
    """Say which matrices of models of one's own are linear layers, for `ascend-overlay quantize`.

    Called by that command alone. Patterns of the names of modules, as its option `--linear` takes them:
    "*.attn.in_proj"; with a + between those that vLLM loads into one layer: "*.attn.wa+wb".
    """


@hookspec
def ascend_overlay_cases() -> Iterable[OperatorCase | LayerCase]:  # type: ignore[empty-body]
    """Contribute comparisons to `ascend-overlay verify`: calls of NPU operators, and layers under an overlay.

    Called by that command, and by `ascend-overlay coverage`, which needs no torch: import torch where a case runs, or
    what it serves through what it calls is not counted there. A case imports what it needs of vLLM when it runs.
    """


@hookspec
def ascend_overlay_left_to_vllm() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Say why layers or operators of vLLM have no overlay, for `ascend-overlay coverage`.

    Called by that command alone. Maps targets ("package.module:Class"), or shell patterns of targets, to a reason; the
    longest pattern that fits wins.
    """
