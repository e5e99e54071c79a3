"""enable() and disable(): from overlays to patched places and back."""
