"""NPU operators."""
