"""`ascend-overlay doctor`: what is here that overlays, vLLM and NPUs depend on, and what to do about what is amiss."""
