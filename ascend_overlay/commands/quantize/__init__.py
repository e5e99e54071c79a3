"""A simple post-training quantizer that writes checkpoints in ModelSlim's format: `ascend-overlay quantize`.

Importing it imports neither vLLM nor torch.
"""

from __future__ import annotations
