"""What vLLM asks of a platform, answered for an NPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from vllm.platforms.interface import Platform, PlatformEnum

from ascend_overlay.errors import ConfigError
from ascend_overlay.overlays.platform import breakable, hindrances, refusals, settling, sizes

if TYPE_CHECKING:
    from vllm.config import VllmConfig

_MODULE = __name__.rpartition(".")[0]
_npu: Any = torch.npu  # type: ignore[attr-defined, unused-ignore]

breakable.prepare()


class NPUPlatform(Platform):  # type: ignore[misc, unused-ignore]
    """An Ascend NPU under torch_npu.

    It has no compute capability (the base class says None), so that whatever vLLM has for NVIDIA's stays shut.
    """

    _enum = PlatformEnum.OOT
    device_name = "npu"
    """vLLM makes devices of it, torch.device("npu:0"); see get_device_name() for the card's."""
    device_type = "npu"
    dispatch_key = "PrivateUse1"
    dist_backend = "hccl"
    simple_compile_backend = "eager"
    device_control_env_var = hindrances.VISIBLE
    ray_device_key = "NPU"
    ray_noset_device_env_vars = ["RAY_EXPERIMENTAL_NOSET_ASCEND_RT_VISIBLE_DEVICES"]  # noqa: RUF012
    supported_quantization = ["ascend"]  # noqa: RUF012

    # --- what a configuration becomes ---------------------------------------------------------------------------

    @property
    def supported_dtypes(self) -> list[torch.dtype]:
        """Return what a model may compute in; the first is taken where its own is none of them."""
        return list(refusals.DTYPES)

    @classmethod
    def check_if_supports_dtype(cls, dtype: torch.dtype) -> None:
        """Refuse what the operators of attention do not take."""
        if reason := refusals.dtype(dtype):
            raise refusals.refused(reason)

    @classmethod
    def verify_quantization(cls, quant: str) -> None:
        """Refuse what has no kernels here."""
        if quant not in cls.supported_quantization:
            raise refusals.refused(refusals.quantization(quant))

    def is_sleep_mode_available(self) -> bool:
        """Refuse: vLLM asks when sleep mode is asked for."""
        raise refusals.refused(refusals.SLEEP)

    @classmethod
    def check_and_update_config(cls, vllm_config: VllmConfig) -> None:
        """Refuse what is not served, and settle the rest."""
        from ascend_overlay.overlays.platform import backends

        refusals.see(vllm_config)
        if vllm_config.model_config is not None:
            refusals.see_experts(vllm_config.model_config)
            if reason := backends.why_not(vllm_config):
                raise refusals.refused(reason)
        settling.settle(vllm_config)

    @classmethod
    def apply_config_platform_defaults(cls, vllm_config: VllmConfig) -> None:
        """Settle what vLLM would otherwise have settled before it asks again."""
        sizes.settle(vllm_config)

    @classmethod
    def update_block_size_for_backend(cls, vllm_config: VllmConfig) -> None:
        """Keep the block size, where the backend would take vLLM's default, too."""
        super().update_block_size_for_backend(vllm_config)
        if not vllm_config.cache_config.user_specified_block_size:
            vllm_config.cache_config.block_size = settling.BLOCK_SIZE

    # --- what takes part ----------------------------------------------------------------------------------------

    @classmethod
    def import_kernels(cls) -> None:
        """Import nothing: vLLM's compiled kernels are for other devices, and absent from a build for none."""

    @classmethod
    def import_ir_kernels(cls) -> None:
        """Import nothing, for the same reason; the overlay `layernorm` has providers for vllm.ir."""

    @classmethod
    def get_attn_backend_cls(
        cls, selected_backend: Any, attn_selector_config: Any, num_heads: int | None = None
    ) -> str:
        """Return the path of the backend for a layer.

        Raises:
            ConfigError: none serves it.
        """
        from ascend_overlay.overlays.platform import backends

        return backends.path(selected_backend, attn_selector_config)

    @classmethod
    def get_mla_prefill_backend_cls(cls, mla_selector_config: Any) -> Any:
        """Return what the builder of latent attention wants to hold."""
        from ascend_overlay.overlays.platform.prefill import ByTheAttentionBackend

        return ByTheAttentionBackend

    @classmethod
    def get_device_communicator_cls(cls) -> str:
        """Return what a group of processes talks by."""
        return f"{_MODULE}.communicator.NPUCommunicator"

    @classmethod
    def get_punica_wrapper(cls) -> str:
        """Refuse: LoRA's kernels are Triton's."""
        raise refusals.refused(refusals.LORA)

    @classmethod
    def use_custom_op_collectives(cls) -> bool:
        """Tell that collectives are operators of torch.ops.vllm, whole under torch.compile."""
        return True

    @classmethod
    def opaque_attention_op(cls) -> bool:
        """Tell that attention is one operator, whole under torch.compile."""
        return True

    @classmethod
    def support_hybrid_kv_cache(cls) -> bool:
        """Tell that layers with a window and without one may have caches of their own."""
        return True

    @classmethod
    def support_static_graph_mode(cls) -> bool:
        """Tell that graphs are captured."""
        return True

    @classmethod
    def get_static_graph_wrapper_cls(cls) -> str:
        """Return what captures and replays: vLLM's own for CUDA, whose graphs are the NPU's here; see streams.py."""
        return "vllm.compilation.cuda_graph.CUDAGraphWrapper"

    @classmethod
    def check_runner_kv_caches_multi_layer(cls) -> None:
        """Allow several attention layers of one index: the runner is vLLM's own for GPUs."""

    # --- the device ---------------------------------------------------------------------------------------------

    @classmethod
    def set_device(cls, device: torch.device) -> None:
        """Make `device` the current one."""
        _npu.set_device(device)

    @classmethod
    def manual_seed_all(cls, seed: int) -> None:
        """Seed the generators of all devices."""
        _npu.manual_seed_all(seed)

    @classmethod
    def get_device_name(cls, device_id: int = 0) -> str:
        """Return the name of the card."""
        name: str = _npu.get_device_name(device_id)
        return name

    @classmethod
    def get_device_uuid(cls, device_id: int = 0) -> str:
        """Return what tells this device from the others of the machine; torch_npu has no number of the card's own."""
        return f"npu-{cls.visible_device_id_to_physical_device_id(device_id)}"

    @classmethod
    def get_device_total_memory(cls, device_id: int = 0) -> int:
        """Return its memory in bytes."""
        return int(_npu.get_device_properties(device_id).total_memory)

    @classmethod
    def get_current_memory_usage(cls, device: Any = None) -> float:
        """Return the most memory in bytes that was in use at a time since this was last asked."""
        most = float(_npu.max_memory_allocated(device))
        _npu.reset_peak_memory_stats(device)
        return most

    @classmethod
    def num_compute_units(cls, device_id: int = 0) -> int:
        """Return the number of its cores for matrices.

        Raises:
            ConfigError: torch_npu does not tell.
        """
        cores = getattr(_npu.get_device_properties(device_id), "cube_core_num", None)
        if cores is None:
            raise ConfigError("torch_npu does not tell how many cores the NPU has (cube_core_num).")
        return int(cores)
