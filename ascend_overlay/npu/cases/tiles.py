"""The tile registers of CPUs with AMX, which a process may not touch before it has asked the system for them.

vLLM's kernels for CPUs touch them without asking. In a model a product of PyTorch has asked before; a layer by itself
would end the process by an illegal instruction.
"""

from __future__ import annotations


def allow() -> None:
    """Ask for them, once in a process; on another CPU nothing happens."""
    import torch

    torch.cpu._init_amx()
