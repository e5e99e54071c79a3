"""What ascend_overlay costs: `python -m benchmarks`, from the checkout. docs/performance.md tells how to read it.

Everything is measured as a ratio or difference of two things in one run, which take turns: absolute times say more
about the machine.
"""
