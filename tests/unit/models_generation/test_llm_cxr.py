"""LLM-CXR's text half converts, and writes the tokens transformers writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.errors import CheckpointMismatch
from models.generation.limits import Limits
from models.generation.prompting import PromptForm, embedded_prompt
from models.generation.strategies import Strategy, write
from models.generation.wiring import CacheShape, DecoderOnly
from models.session import Session

torch = pytest.importorskip("torch", reason="conversion needs torch")
transformers = pytest.importorskip("transformers", reason="the comparison needs transformers")

from models.export.checkpoint import Layout  # noqa: E402
from models.export.llm_cxr import convert_text_half, load_neox, network_of  # noqa: E402
from tests.unit.models_generation.released import ids_of, randomised  # noqa: E402

SIZES = {
    "vocab_size": 120,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
DOLLY_3B = {
    # Dolly's 50,281 words and 1,024 image codes.
    "vocab_size": 51305,
    "hidden_size": 2560,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "intermediate_size": 10240,
}


def test_the_tokens_are_those_of_transformers(tmp_path: Path) -> None:
    theirs = randomised(transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**SIZES)), 6)
    theirs.save_pretrained(tmp_path)
    graphs = convert_text_half(tmp_path, tmp_path)
    assert all(max(graph.differences) < 1e-4 for graph in graphs.values())
    embed, decoder = (Session(graphs[name].path, threads=1) for name in ("embed", "decoder"))
    distinct: set[int] = set()
    for words in (3, 11):
        ids = torch.randint(3, 120, (1, words), generator=torch.Generator().manual_seed(words))
        for settings, strategy in (({}, Strategy()), ({"num_beams": 3}, Strategy(kind="beams", beams=3))):
            expected = theirs.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False, eos_token_id=2,
                pad_token_id=0, **settings
            )  # fmt: skip
            none = torch.zeros(0, 32).numpy()
            form = PromptForm(text="", questions={"en": ""})
            prompt = embedded_prompt(embed, (ids[0].tolist(), ()), none, form)
            reader = DecoderOnly(embed, decoder, prompt, CacheShape(2, 4, 8))
            written = write(reader, strategy, Limits(20, (2,)))
            assert list(written.tokens) == ids_of(expected, words)
            distinct.update(written.tokens)
    assert len(distinct) >= 6


def test_other_layouts_are_refused() -> None:
    network = network_of(SIZES)
    tensors = {f"gpt_neox.{k}" if not k.startswith("embed_out") else k: v for k, v in network.state_dict().items()}
    load_neox(network, tensors)
    with pytest.raises(CheckpointMismatch, match="unexpected"):
        load_neox(network, {**tensors, "score.weight": torch.zeros(1)})
    with pytest.raises(CheckpointMismatch, match="beside"):
        network_of({**SIZES, "use_parallel_residual": False})


def test_the_released_layout() -> None:
    layout = Layout.load("llm-cxr")
    with torch.device("meta"):
        network = network_of(DOLLY_3B)
    held = {
        key if key.startswith("embed_out") else f"gpt_neox.{key}": tuple(value.shape)
        for key, value in network.state_dict().items()
    }
    assert held == layout.shapes
