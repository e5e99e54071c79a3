"""PyTorch's own samples of its operators (OpInfo) on the software NPU, beside the CPU."""
