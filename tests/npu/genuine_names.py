"""What is known of the genuine torch_npu's operators beforehand."""

NO_META = ("npu_format_cast",)
"""Operators for which torch_npu has no meta kernel; ours is in force there."""
