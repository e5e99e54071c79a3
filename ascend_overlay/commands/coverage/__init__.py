"""Which layers and operators of the installed vLLM an overlay serves, and why not: `ascend-overlay coverage`."""
