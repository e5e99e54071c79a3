"""Routers and experts of vLLM's mixtures of experts."""
