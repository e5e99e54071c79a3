"""Stand-ins for the compiled parts of vllm-ascend, for the software NPU."""
