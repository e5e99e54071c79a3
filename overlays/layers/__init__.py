"""What the layer overlays put in place: loaded when vLLM's own layers are."""
