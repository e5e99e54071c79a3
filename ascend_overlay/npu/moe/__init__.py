"""A mixture of experts on torch_npu's operators: choosing the experts, and running them on float or int8 weights.

Free of vLLM, so that the overlay of the float experts and the quantization schemes share it.
"""
