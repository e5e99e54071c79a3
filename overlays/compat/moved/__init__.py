"""Modules that vLLM no longer has: each stands for one, and knows where its names are today."""
