"""What is known of the genuine torch_npu's operators beforehand."""

NO_META = ("npu_format_cast", "npu_gather_pa_kv_cache", "npu_fused_infer_attention_score_v2.out")
"""Operators for which torch_npu has no meta kernel; ours is in force there."""
