"""What is known of the genuine torch_npu's operators beforehand."""

NO_META = ("npu_format_cast", "npu_gather_pa_kv_cache")
"""Operators for which torch_npu has no meta kernel; ours is in force there."""

UNDECLARED_WRITES = ("npu_kv_rmsnorm_rope_cache",)
"""Operators that write to, and return, arguments of which torch_npu's schema does not say so; PyTorch checks that."""
