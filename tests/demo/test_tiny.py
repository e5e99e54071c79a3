"""The tiny models on disk."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ascend_overlay.commands.demo import tiny
from ascend_overlay.commands.demo.tiny import checkpoint

numpy = pytest.importorskip("numpy")
pytest.importorskip("tokenizers")

Maker = Callable[..., Path]


@pytest.fixture(params=[tiny.make_deepseek_v2, tiny.make_llama], ids=["deepseek_v2", "llama"])
def make(request: pytest.FixtureRequest) -> Maker:
    """Each of the makers."""
    maker: Maker = request.param
    return maker


def weights(path: Path) -> dict[str, Any]:
    """Read the checkpoint by its own description; values as float32."""
    raw = (path / "model.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    data = raw[8 + length :]
    found = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            bits = numpy.frombuffer(data[begin:end], dtype="<u2").astype("<u4") << 16
            found[name] = bits.view("<f4").reshape(entry["shape"])
    return found


def test_the_same_seed_gives_the_same_files(make: Maker, tmp_path: Path) -> None:
    first, second, other = make(tmp_path / "a"), make(tmp_path / "b"), make(tmp_path / "c", seed=1)
    for file in first.iterdir():
        assert file.read_bytes() == (second / file.name).read_bytes(), file.name
    assert (first / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()


def test_weights_are_finite_and_none_is_empty(make: Maker, tmp_path: Path) -> None:
    for name, array in weights(make(tmp_path)).items():
        assert numpy.isfinite(array).all(), name
        assert array.std() > 0.01, name


def test_torch_reads_what_was_written_without_it(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    load_file = pytest.importorskip("safetensors.torch").load_file
    path = tiny.make_llama(tmp_path)
    found = load_file(str(path / "model.safetensors"))
    ours = weights(path)
    assert found.keys() == ours.keys()
    for name, tensor in found.items():
        assert tensor.dtype is torch.bfloat16
        assert numpy.array_equal(tensor.float().numpy(), ours[name]), name


def test_rounding_to_bfloat16_is_that_of_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    values = numpy.array([1.0, 1.00390625, 1.01171875, -3.1415927, 1e-30, 65504.0, 0.0], dtype="<f4")
    expected = torch.from_numpy(values.copy()).bfloat16().view(torch.int16).numpy().tobytes()
    assert checkpoint.bfloat16(values) == expected


def test_each_token_brings_its_own_experts(tmp_path: Path) -> None:
    found = weights(tiny.make_deepseek_v2(tmp_path, experts=8, experts_per_token=2))
    embedding, gate = found["model.embed_tokens.weight"], found["model.layers.1.mlp.gate.weight"]
    scores = numpy.sort(embedding @ gate.T, axis=1)
    assert ((scores[:, -2] - scores[:, -3]) > 0.5).all()
    chosen = set(numpy.argsort(embedding @ gate.T, axis=1)[:, -2:].ravel().tolist())
    assert chosen == set(range(8))


def test_config_can_be_changed(tmp_path: Path) -> None:
    path = tiny.make_llama(tmp_path, layers=1, architectures=["MineForCausalLM"], anything=3)
    config = json.loads((path / "config.json").read_text())
    assert config["architectures"] == ["MineForCausalLM"]
    assert config["anything"] == 3
    assert config["num_hidden_layers"] == 1


def test_compressed_queries_have_their_weights(tmp_path: Path) -> None:
    names = weights(tiny.make_deepseek_v2(tmp_path, q_lora_rank=64)).keys()
    assert "model.layers.0.self_attn.q_a_layernorm.weight" in names
    assert "model.layers.0.self_attn.q_proj.weight" not in names


def test_the_tokenizer_keeps_every_text(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tiny.make_llama(tmp_path) / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == tiny.VOCABULARY
    for text in ("The river wanted to see the mountains.", "äöü \N{SNOWMAN}\n\ttab", ""):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert len(tokenizer.encode("A language model reads a prompt").ids) < 12


def test_transformers_loads_tokenizer_and_configuration_offline(make: Maker, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    path = make(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
    assert len(tokenizer) == tiny.VOCABULARY
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (tiny.BOS, tiny.EOS, tiny.PAD)
    messages = [{"role": "user", "content": "hello"}]
    assert (
        tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == "user: hello\nassistant:"
    )
    config = transformers.AutoConfig.from_pretrained(path, local_files_only=True)
    assert config.vocab_size == tiny.VOCABULARY


def test_neither_vllm_nor_torch_is_imported(tmp_path: Path) -> None:
    script = (
        "import sys; from ascend_overlay.commands.demo import tiny; tiny.make_deepseek_v2(sys.argv[1]); "
        "print([name for name in ('vllm', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
