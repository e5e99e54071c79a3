"""Where vLLM's model runner has the host compute what inputs.py says. It is data: a declaration imports neither."""

from __future__ import annotations

import textwrap

TARGET = "vllm.v1.worker.gpu_model_runner:GPUModelRunner._prepare_inputs"

ASKED = "computes_on_the_host"
"""The method that takes the place of vLLM's lines. vLLM's runner for CPUs, which runs them too, does not have it."""


def edits() -> dict[str, str]:
    """Return what is found in `TARGET`, and what takes its place."""
    return {found: textwrap.dedent(put).replace(_FOUND, _indented(found)) for found, put in _EDITS.items()}


def _indented(statements: str) -> str:
    return textwrap.indent(textwrap.dedent(statements).strip(), "    ").strip()


_FOUND = "FOUND"
_EDITS = {
    """
    self.req_indices.np[:total_num_scheduled_tokens] = req_indices
    self.req_indices.copy_to_gpu(total_num_scheduled_tokens)
    req_indices_gpu = self.req_indices.gpu[:total_num_scheduled_tokens]
    self.query_pos.copy_to_gpu(total_num_scheduled_tokens)
    self.num_scheduled_tokens.np[:num_reqs] = num_scheduled_tokens
    self.num_scheduled_tokens.copy_to_gpu(num_reqs)
    num_scheduled_tokens_gpu = self.num_scheduled_tokens.gpu[:num_reqs]
    self.positions[:total_num_scheduled_tokens] = (
        self.num_computed_tokens[req_indices_gpu].to(torch.int64) + self.query_pos.gpu[:total_num_scheduled_tokens]
    )
    self.seq_lens[:num_reqs] = self.num_computed_tokens[:num_reqs] + num_scheduled_tokens_gpu
    self.seq_lens[num_reqs:].fill_(0)
    self.input_batch.block_table.compute_slot_mapping(
        num_reqs, self.query_start_loc.gpu[: num_reqs + 1], self.positions[:total_num_scheduled_tokens]
    )
    """: f"""
    if hasattr(self, {ASKED!r}):
        self.{ASKED}(req_indices, positions_np)
    else:
        {_FOUND}
    """,
    # What these two write is read by the lines above, by layers with a state and with speculative decoding: the last
    # two are refused on this platform.
    """
    self.num_computed_tokens[:num_reqs].copy_(
        self.input_batch.num_computed_tokens_cpu_tensor[:num_reqs], non_blocking=True
    )
    """: f"""
    if not hasattr(self, {ASKED!r}):
        {_FOUND}
    """,
    "self.num_accepted_tokens.gpu.fill_(1)": f"""
    if not hasattr(self, {ASKED!r}):
        {_FOUND}
    """,
}
