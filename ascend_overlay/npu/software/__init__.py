"""The software NPU: the genuine torch_npu on a software ACL runtime, on a machine without a card.

    ascend-overlay run --npu software python train.py

In every process of the command ``device="npu"`` computes: torch_npu's own allocator, streams, events, graphs and
operators, and below them a runtime whose device memory is this machine's.

- options.py: what was asked for: how many devices, how much memory, where to report.
- arrival.py: a process learns of it; a finder that waits for torch and torch_npu.
- build.py, cache.py: the native parts, built with the local compiler on first use.
- native/: the runtime in place of CANN's (C), and the kernels in place of a card's (C++).
- native_calls.py: the functions of those that Python calls.
- install.py: the kernels are put behind torch_npu's operators.
- collectives.py: hccl by gloo. variants.py: operators that torch_npu needs for the update of a graph.
- report.py: what was called in a process. launches.py, sites.py, steps.py: what of it a card is given to do, where the
  host waits for it, and what one step of a model asks for.

Nothing here imports torch when it is imported, except install.py, collectives.py, variants.py and the report's.
"""
