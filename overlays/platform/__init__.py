"""The platform of a stock vLLM for Ascend NPUs: what vLLM asks a platform, its worker, its model runner.

vLLM finds it by an entry point of the group ``vllm.platform_plugins`` (hooks/platforms.py), its seam for platforms;
choice.py says whether there is an NPU to choose. npu.py is the platform, settling.py what becomes of a configuration,
refusals.py what is refused before anything is built, sizes.py for which batches graphs are captured, breakable.py how
they are made without a compiler. worker.py and runner.py are vLLM's own for GPUs, on an NPU: streams.py gives the
runner the NPU's streams (current.py) and graphs (graphs.py), kernels.py PyTorch in place of the Triton kernels that it
cannot do without, prefill.py what the builder of latent attention wants to hold. Of several ranks, devices.py says
which device each has, communicator.py has the collectives, executor.py names the one that died, remote.py equips Ray's.

The layers come from the overlays `attention`, `mla` and `moe`, by vLLM's registries; nothing here imports them.
"""

from __future__ import annotations

from ascend_overlay import Overlay
from ascend_overlay.overlays.platform import on_the_host
from ascend_overlay.overlays.platform.hindrances import Unhindered

_MODULE = __name__

overlay = Overlay(
    "platform",
    vllm=">=0.27.1,<0.34",
    # The first whose torch.accelerator answers all that vLLM's worker asks.
    torch_npu=">=2.13",
    reason="vLLM has no platform for NPUs: beside one it serves on the CPU, or finds no device at all",
    upstream=None,
    when=Unhindered(),
)

overlay.wrap(
    "vllm.platforms:resolve_current_platform_cls_qualname",
    f"{_MODULE}.choice:resolve",
    reason="where vLLM chooses another platform beside an NPU, nobody says so",
)
overlay.call(
    "vllm.platforms",
    do=f"{_MODULE}.choice:look_back",
    irreversible=True,
    reason="vLLM may have chosen another platform before, and nobody said so",
)
# Where vLLM decides whether its graphs need a compiler. Before 0.29 that is a part of a longer function.
for _name, _vllm in {"_maybe_enable_breakable_cudagraph": ">=0.29", "__post_init__": "<0.29"}.items():
    overlay.wrap(
        f"vllm.config.vllm:VllmConfig.{_name}",
        f"{_MODULE}.breakable:decide",
        vllm=_vllm,
        reason="vLLM has no seam for a platform whose graphs need no compiler, and forgets what was asked for",
    )
# From 0.32 on vLLM asks the platform.
overlay.wrap(
    "vllm.v1.attention.backends.mla.prefill.selector:get_mla_prefill_backend",
    f"{_MODULE}.prefill:choose",
    vllm="<0.32",
    reason="vLLM takes FLASH_ATTN's backend for prompts of latent attention where no compute capability is",
)
# Only where vLLM runs on this platform does it load the runner.
overlay.call(
    f"{_MODULE}.runner",
    do=f"{_MODULE}.streams:give",
    undo=f"{_MODULE}.streams:take_back",
    reason="vLLM's model runner asks torch.cuda for streams, events and graphs, whatever the platform is",
)
for _found, _put in on_the_host.EDITS.items():
    overlay.edit(
        on_the_host.TARGET,
        find=_found,
        put=_put,
        reason="vLLM computes on the device what the host knows unless it drafts tokens, one launch after the other",
    )
