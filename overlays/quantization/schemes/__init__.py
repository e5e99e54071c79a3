"""The built-in quantization schemes."""

from __future__ import annotations

from ascend_overlay.overlays.quantization.schemes.w4a8_dynamic_experts import W4A8_DYNAMIC_EXPERTS
from ascend_overlay.overlays.quantization.schemes.w4a16_experts import W4A16_EXPERTS
from ascend_overlay.overlays.quantization.schemes.w8a8 import W8A8
from ascend_overlay.overlays.quantization.schemes.w8a8_dynamic import W8A8Dynamic
from ascend_overlay.overlays.quantization.schemes.w8a8_dynamic_experts import W8A8_DYNAMIC_EXPERTS
from ascend_overlay.overlays.quantization.schemes.w8a8_mix import W8A8Mix
from ascend_overlay.overlays.quantization.schemes.w8a16 import W8A16
from ascend_overlay.quantization import ExpertsScheme, LinearScheme

SCHEMES: tuple[LinearScheme | ExpertsScheme, ...] = (
    W8A8(),
    W8A8Dynamic(),
    W8A8Mix(),
    W8A16(),
    W8A8_DYNAMIC_EXPERTS,
    W4A8_DYNAMIC_EXPERTS,
    W4A16_EXPERTS,
)
