"""vLLM's own tests are not collected here; they run in processes of their own."""

from __future__ import annotations

collect_ignore = ["on_cpu.py"]
