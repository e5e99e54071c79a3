"""What one site changes in vLLM: patches only, no model."""
