"""The built-in overlays on each release of vLLM that they are declared for: `tox run -m releases`, docs/releases.md."""
