"""What a server does besides answering greedily, asked of one engine in this process.

The engine has few blocks of cache and steps of few tokens, so that requests are preempted and prompts read in parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from npu_worker import LIKELIEST, described

from ascend_overlay.commands.demo import in_process

_SHARED = [1 + (5 * j) % 200 for j in range(140)]
PROMPTS = ([*_SHARED, 7, 8], [*_SHARED, 9], [3, 4, 5], _SHARED[:60])
"""Two begin alike, for more than a block."""
BLOCKS = 8
"""A third of what the requests want at a time."""
JSON_SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}, "n": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["ok", "n"],
    "additionalProperties": False,
}
SAID_AT_FIRST = 4
"""Of what is answered to plain requests, so many tokens are what others must not say or stop at."""
SEEDED: dict[str, dict[str, Any]] = {
    "seed": {},
    "top_k": {"top_k": 5},
    "top_p": {"top_p": 0.7},
    "min_p": {"min_p": 0.1},
    "n": {"n": 3},
}
"""Random, and repeatable: each is asked for twice, with one seed, and once with another."""


def asked(model: str) -> dict[str, Any]:
    """Return what the engine answers to all of it."""
    from vllm.platforms import current_platform

    llm = in_process.engine(
        model,
        dtype="bfloat16",
        mode=in_process.EAGER,
        max_num_batched_tokens=96,
        enable_prefix_caching=True,
        num_gpu_blocks_override=BLOCKS,
        block_size=128,
        # A tiny model would go on with blanks for ever.
        structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},
    )
    try:
        found: dict[str, Any] = {"platform": type(current_platform).__name__}
        plain = _answers(llm)
        found["said"] = sorted({token for tokens in plain["tokens"] for token in tokens[:SAID_AT_FIRST]})
        greedy = _greedy(found["said"], llm.get_tokenizer())
        found["greedy"] = {"plain": plain} | {name: _answers(llm, **options) for name, options in greedy.items()}
        found["cached"] = [output.num_cached_tokens for output in _generate(llm)]
        if not current_platform.is_cpu():
            # vLLM sets a generator back where a prompt is read in parts, and one for CPUs cannot be.
            found["seeded"] = {name: _thrice(llm, options) for name, options in SEEDED.items()}
        found["prompt_logprobs"] = [
            [next(iter(place.values())).logprob for place in output.prompt_logprobs[1:]]
            for output in _generate(llm, prompt_logprobs=0, max_tokens=1)
        ]
        found["structured"] = _structured(llm)
        found["preempted"], found["after_preemption"] = _preempted(llm)
        found["aborted"] = _aborted(llm)
        return found
    finally:
        in_process.shut_down(llm)


def _greedy(said: list[int], tokenizer: Any) -> dict[str, dict[str, Any]]:
    """Return requests that every platform answers alike, beside the plain one, whose first answers are `said`."""
    return {
        # Turned round: the model would not say a thing twice by itself.
        "penalties": {"repetition_penalty": 0.5, "presence_penalty": -2.0, "frequency_penalty": -2.0},
        "logit_bias": {"logit_bias": {17: 80.0}},
        "stop_token_ids": {"stop_token_ids": said, "ignore_eos": False},
        "min_tokens": {"stop_token_ids": said, "ignore_eos": False, "min_tokens": 5},
        "bad_words": {"bad_words": [tokenizer.decode([token]) for token in said]},
        "allowed_token_ids": {"allowed_token_ids": [10, 20, 30]},
    }


def _generate(llm: Any, prompts: Any = PROMPTS, **options: Any) -> list[Any]:
    from vllm import SamplingParams

    wanted = SamplingParams(**{"temperature": 0.0, "max_tokens": 12, "ignore_eos": True, **options})
    outputs: list[Any] = llm.generate([{"prompt_token_ids": list(p)} for p in prompts], wanted, use_tqdm=False)
    return outputs


def _answers(llm: Any, prompts: Any = PROMPTS, **options: Any) -> dict[str, Any]:
    """Return what is answered, in the form that runs are compared in."""
    return described([output.outputs[0] for output in _generate(llm, prompts, logprobs=LIKELIEST, **options)])


def _thrice(llm: Any, options: dict[str, Any]) -> list[Any]:
    outputs = [_generate(llm, temperature=1.0, seed=seed, **options) for seed in (11, 11, 12)]
    return [[list(one.token_ids) for output in each for one in output.outputs] for each in outputs]


def _structured(llm: Any) -> dict[str, list[str]]:
    """Return the texts of what must be of a form."""
    from vllm.sampling_params import StructuredOutputsParams

    forms: dict[str, dict[str, Any]] = {
        "choice": {"choice": ["yes", "no"]},
        "regex": {"regex": "[0-9]{4}"},
        "json": {"json": JSON_SCHEMA},
    }
    return {
        name: [
            output.outputs[0].text
            for output in _generate(
                llm, structured_outputs=StructuredOutputsParams(**form), ignore_eos=False, max_tokens=60
            )
        ]
        for name, form in forms.items()
    }


def _preempted(llm: Any) -> tuple[int, dict[str, Any]]:
    """Return how often a request had to give its blocks back, and what was answered."""
    scheduler = _core(llm).scheduler
    with _counted(scheduler, "_preempt_request") as calls:
        # Two blocks each in the end, and more requests than have room.
        prompts = [[1 + (11 * i + 3 * j) % 200 for j in range(100 + i)] for i in range(6)]
        answers = _answers(llm, prompts, max_tokens=50)
    return len(calls), answers


def _aborted(llm: Any) -> dict[str, Any]:
    """Abort one of two requests half way; return what was left of it, and what the other one said."""
    from vllm import SamplingParams

    engine = llm.llm_engine
    wanted = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True)
    # Those of vLLM's LLM are numbers.
    for name, prompt in (("gone", PROMPTS[2]), ("stays", PROMPTS[3])):
        engine.add_request(name, {"prompt_token_ids": list(prompt)}, wanted)
    for _ in range(4):
        engine.step()
    engine.abort_request(["gone"])
    finished = {}
    while engine.has_unfinished_requests():
        for output in engine.step():
            if output.finished:
                finished[output.request_id] = list(output.outputs[0].token_ids)
    scheduler = _core(llm).scheduler
    return {
        "finished": finished,
        "unfinished": scheduler.get_num_unfinished_requests(),
        # One is vLLM's own.
        "blocks_in_use": BLOCKS - 1 - scheduler.kv_cache_manager.block_pool.get_num_free_blocks(),
    }


def _core(llm: Any) -> Any:
    return llm.llm_engine.engine_core.engine_core


@contextmanager
def _counted(of: Any, method: str) -> Iterator[list[None]]:
    """Yield a list that grows by one at each call."""
    calls: list[None] = []
    genuine = getattr(of, method)

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(None)
        return genuine(*args, **kwargs)

    setattr(of, method, counted)
    try:
        yield calls
    finally:
        delattr(of, method)
