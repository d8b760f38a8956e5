"""Report generators: the released folder converts, and writes the tokens transformers writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.errors import CheckpointMismatch
from models.model import Model

torch = pytest.importorskip("torch", reason="conversion needs torch")
transformers = pytest.importorskip("transformers", reason="the comparison needs transformers")

from models.export.checkpoint import Layout  # noqa: E402
from models.export.vision_encoder_decoder import convert, load, networks  # noqa: E402
from models.generation.constraints import NoRepeatedNgram, RepetitionPenalty  # noqa: E402
from models.generation.limits import Limits  # noqa: E402
from models.generation.strategies import Strategy, write  # noqa: E402
from models.generation.wiring import CacheShape, EncoderDecoder  # noqa: E402
from tests.unit.models_generation.released import (  # noqa: E402
    START,
    STOP,
    character_tokenizer,
    ids_of,
    randomised,
    save,
)

pytestmark = pytest.mark.slow

VOCABULARY = 90
SHAPE = CacheShape(2, 4, 8)
CASES = [("vit", "bert", 32), ("vit", "gpt2", 48), ("swin", "bert", 64), ("swin", "gpt2", 32)]


def reference(sees: str, kind: str, size: int) -> Any:
    if sees == "vit":
        encoder: Any = transformers.ViTConfig(
            image_size=size,
            patch_size=8,
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=3,
            intermediate_size=40,
        )
    else:
        encoder = transformers.SwinConfig(
            image_size=size, patch_size=4, embed_dim=12, depths=[2, 2], num_heads=[2, 4], window_size=4
        )
    if kind == "bert":
        decoder: Any = transformers.BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=50,
            max_position_embeddings=64,
            is_decoder=True,
            add_cross_attention=True,
            tie_word_embeddings=False,
        )
    else:
        decoder = transformers.GPT2Config(
            vocab_size=VOCABULARY,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=64,
            add_cross_attention=True,
            tie_word_embeddings=False,
            bos_token_id=START,
            eos_token_id=STOP,
        )
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.tie_word_embeddings = False
    model = randomised(transformers.VisionEncoderDecoderModel(config=config), 3 if sees == "vit" else 5)
    model.generation_config.update(decoder_start_token_id=START, bos_token_id=START, pad_token_id=0, eos_token_id=STOP)
    return model


@pytest.fixture(scope="module", params=CASES, ids=[f"{sees}-{kind}" for sees, kind, _ in CASES])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Model, int, Path]:
    sees, kind, size = request.param
    model = reference(sees, kind, size)
    checkpoint = save(model, tmp_path_factory.mktemp(kind), character_tokenizer("abc", size=VOCABULARY))
    folder = tmp_path_factory.mktemp(f"{kind}-out")
    imported = convert(checkpoint, folder)
    report = imported.report()
    assert (report["missing"], report["unexpected"]) == (0, 0)
    for graph in report["graphs"].values():
        assert max(graph["relative_differences"]) < 1e-4
    return model, Model(folder, threads=1), size, checkpoint


WAYS = [
    ({}, Strategy(), ()),
    ({"num_beams": 4}, Strategy(kind="beams", beams=4), ()),
    (
        {"num_beams": 3, "length_penalty": 2.0, "early_stopping": True},
        Strategy(kind="beams", beams=3, length_penalty=2.0, early_stopping=True),
        (),
    ),
    (
        {"num_beams": 3, "length_penalty": 0.4, "early_stopping": "never"},
        Strategy(kind="beams", beams=3, length_penalty=0.4, early_stopping="never"),
        (),
    ),
    (
        {"num_beams": 2, "repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
        Strategy(kind="beams", beams=2),
        (RepetitionPenalty(1.3), NoRepeatedNgram(2)),
    ),
]


def test_the_tokens_are_those_of_transformers(pair: tuple[Any, Model, int, Path]) -> None:
    theirs, model, size, _ = pair
    distinct, stopped = set(), 0
    for seed in range(2):
        pixels = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(seed))
        features = model.session("encoder").run({"pixel_values": pixels.numpy()})

        def ours(length: int, stop: int, strategy: Strategy, constraints: Any, features: Any = features) -> Any:
            reader = EncoderDecoder(model.session("decoder"), features, SHAPE, [START])
            return write(reader, strategy, Limits(length, (stop,)), constraints)

        # A stop token that does come, behind the first few.
        stop = next(t for t in ours(20, STOP, Strategy(), ()).tokens[5:] if t != STOP)
        for length, end in ((9, STOP), (24, stop)):
            for settings, strategy, constraints in WAYS:
                expected = theirs.generate(
                    pixels, max_new_tokens=length, do_sample=False, eos_token_id=end, pad_token_id=0, **settings
                )
                written = ours(length, end, strategy, constraints)
                assert list(written.tokens) == ids_of(expected, 1, end), (settings, length, seed)
                distinct.update(written.tokens)
                stopped += not written.cut
    assert len(distinct) >= 6
    assert stopped > 0


def test_other_layouts_are_refused(pair: tuple[Any, Model, int, Path], tmp_path: Path) -> None:
    theirs, _, _, checkpoint = pair
    config = json.loads((checkpoint / "config.json").read_text())
    encoder, writer = networks(config)
    tensors = {key: value.clone() for key, value in theirs.state_dict().items()}
    with pytest.raises(CheckpointMismatch, match="unexpected: extra"):
        load(encoder, writer, {**tensors, "extra.weight": torch.zeros(1)})
    broken = {key: value for key, value in tensors.items() if "position_embeddings" not in key and ".wpe" not in key}
    with pytest.raises(CheckpointMismatch, match="missing"):
        load(*networks(config), broken)
    for stated, said in (({"window_size": 5}, "windows of 5"), ({"use_absolute_embeddings": True}, "absolute")):
        swin = {"model_type": "swin", "image_size": 64, "depths": [2, 2], "window_size": 4, **stated}
        with pytest.raises(CheckpointMismatch, match=said):
            networks({**config, "encoder": swin})
    config["encoder"]["model_type"] = "cvt"
    with pytest.raises(CheckpointMismatch, match="no converter"):
        networks(config)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointMismatch, match="encoder"):
        convert(tmp_path, tmp_path)


def test_code_beside_the_weights_is_never_run(pair: tuple[Any, Model, int, Path], tmp_path: Path) -> None:
    _, _, _, checkpoint = pair
    for file in checkpoint.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    planted = tmp_path / "planted"
    (tmp_path / "modeling_evil.py").write_text(f"open({str(planted)!r}, 'w').close()\n")
    config = json.loads((checkpoint / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "modeling_evil.Model"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    out = tmp_path / "out"
    out.mkdir()
    convert(tmp_path, out)
    assert not planted.exists()
    assert not list(out.glob("*.py"))


@pytest.mark.parametrize(
    ("name", "sees", "kind"), [("bert", "vit", "bert"), ("gpt2", "vit", "gpt2"), ("swin", "swin", "bert")]
)
def test_the_real_size_has_the_released_keys(name: str, sees: str, kind: str) -> None:
    layout = Layout.load(f"vision-encoder-decoder-{name}")
    config = {"encoder": {"model_type": sees}, "decoder": {"model_type": kind}}
    with torch.device("meta"):
        encoder, writer = networks(config)
    ours = {key: tuple(value.shape) for key, value in encoder.state_dict().items()}
    ours |= {f"decoder.{key}": tuple(value.shape) for key, value in writer.state_dict().items()}
    assert ours == layout.shapes
    if sees == "swin":
        small = transformers.SwinModel(transformers.SwinConfig(), add_pooling_layer=False)
        assert sum(each.numel() for each in small.parameters()) == sum(each.numel() for each in encoder.parameters())
    assert np.sum([np.prod(shape) for shape in layout.shapes.values()]) > 150e6
