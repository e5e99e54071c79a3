"""Where vLLM's model runner has the host compute what inputs.py says. It is data: a declaration imports neither."""

from __future__ import annotations

TARGET = "vllm.v1.worker.gpu_model_runner:GPUModelRunner._prepare_inputs"

ASKED = "computes_on_the_host"
"""The method that takes the place of vLLM's lines. vLLM's runner for CPUs, which runs them too, does not have it."""

EDITS = {
    # From where the requests of the tokens are noted to where the slots are computed, the device is told of the batch.
    """
    self.req_indices.np[:total_num_scheduled_tokens] = req_indices
    ...
    self.input_batch.block_table.compute_slot_mapping(
        num_reqs, self.query_start_loc.gpu[: num_reqs + 1], self.positions[:total_num_scheduled_tokens]
    )
    """: f"""
    if hasattr(self, {ASKED!r}):
        self.{ASKED}(req_indices, positions_np)
    else:
        ...
    """,
    # What these two write is read by the lines above, by layers with a state and with speculative decoding: the last
    # two are refused on this platform.
    """
    self.num_computed_tokens[:num_reqs].copy_(
        self.input_batch.num_computed_tokens_cpu_tensor[:num_reqs], non_blocking=True
    )
    """: f"""
    if not hasattr(self, {ASKED!r}):
        self.num_computed_tokens[:num_reqs].copy_(
            self.input_batch.num_computed_tokens_cpu_tensor[:num_reqs], non_blocking=True
        )
    """,
    "self.num_accepted_tokens.gpu.fill_(1)": f"""
    if not hasattr(self, {ASKED!r}):
        self.num_accepted_tokens.gpu.fill_(1)
    """,
}
"""What is found in `TARGET`, and what takes its place."""
