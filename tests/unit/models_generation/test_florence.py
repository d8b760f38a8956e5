"""Florence-2 as AG-KD publishes it converts, and writes the tokens transformers writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.errors import CheckpointMismatch, InferenceFailed
from models.generation.constraints import ForcedLast, NoRepeatedNgram
from models.generation.limits import Ending, Limits, Written
from models.generation.strategies import Strategy, write
from models.generation.wiring import CacheShape, EncoderDecoder
from models.model import Model
from models.results import Outcome

torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("transformers", reason="the comparison needs transformers")

from safetensors.torch import load_file, save_file  # noqa: E402

from models.export.checkpoint import Layout  # noqa: E402
from models.export.florence import convert_florence, networks  # noqa: E402
from tests.unit.models_generation.florence_reference import IMAGE_TOKEN, florence  # noqa: E402
from tests.unit.models_generation.references import Reference  # noqa: E402
from tests.unit.models_generation.released import ids_of  # noqa: E402
from tests.unit.models_generation.test_reading_adapter import radiograph  # noqa: E402

SIZE = 40
BASE: dict[str, Any] = {
    "vision_config": {
        "dim_embed": [128, 256, 512, 1024],
        "depths": [1, 1, 9, 1],
        "num_heads": [4, 8, 16, 32],
        "num_groups": [4, 8, 16, 32],
        "patch_size": [7, 3, 3, 3],
        "patch_stride": [4, 2, 2, 2],
        "patch_padding": [3, 1, 1, 1],
        "patch_prenorm": [False, True, True, True],
        "window_size": 12,
        "projection_dim": 768,
        "image_pos_embed": {"max_pos_embeddings": 50},
        "visual_temporal_embedding": {"max_temporal_embeddings": 100},
    },
    "text_config": {
        "d_model": 768,
        "encoder_layers": 6,
        "decoder_layers": 6,
        "vocab_size": 51289,
        "decoder_attention_heads": 12,
        "decoder_ffn_dim": 3072,
        "max_position_embeddings": 1024,
    },
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Reference, Model]:
    reference = florence(tmp_path_factory.mktemp("ag-kd"))
    folder = tmp_path_factory.mktemp("ag-kd-out")
    report = convert_florence("ag-kd", reference.folder, folder, inner=32, size=SIZE).report()
    assert (report["missing"], report["unexpected"]) == (0, 0)
    assert all(max(graph["relative_differences"]) < 1e-4 for graph in report["graphs"].values())
    return reference, Model(folder, threads=1)


def test_the_tokens_are_those_of_transformers(pair: tuple[Reference, Model]) -> None:
    reference, model = pair
    distinct: set[int] = set()
    for seed, words in ((0, 4), (1, 11)):
        generator = torch.Generator().manual_seed(seed)
        pixels = torch.randn(1, 3, SIZE, SIZE, generator=generator)
        features = model.session("vision").run({"pixel_values": pixels.numpy()})["image_features"]
        text = torch.randint(4, 120, (words,), generator=generator).tolist()
        ids = torch.tensor([[*([IMAGE_TOKEN] * features.shape[1]), 0, *text, 2]])
        embeds = model.session("embed").run({"input_ids": ids.numpy()})["inputs_embeds"]
        embeds[0, : features.shape[1]] = features[0]
        cross = model.session("encoder").run({"inputs_embeds": embeds})
        for settings, strategy in (
            ({}, Strategy()),
            ({"num_beams": 3, "early_stopping": True}, Strategy(kind="beams", beams=3, early_stopping=True)),
        ):
            expected = reference.model.generate(
                input_ids=ids, pixel_values=pixels, max_new_tokens=18, no_repeat_ngram_size=3, **settings
            )
            reader = EncoderDecoder(model.session("decoder"), cross, CacheShape(2, 4, 8), [2])
            written = write(reader, strategy, Limits(18, (2,)), (NoRepeatedNgram(3), ForcedLast(2, 18)))
            assert list(written.tokens) == ids_of(expected, 1, 2, 1), (settings, words)
            distinct.update(written.tokens)
    assert len(distinct) >= 6


def test_the_image_tokens_are_those_of_transformers(pair: tuple[Reference, Model]) -> None:
    reference, model = pair
    pixels = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = reference.model.model.get_image_features(pixels).pooler_output.numpy()
    found = model.session("vision").run({"pixel_values": pixels.numpy()})["image_features"]
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_one_key_too_few_is_refused(pair: tuple[Reference, Model], tmp_path: Path) -> None:
    source = pair[0].folder
    for file in source.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = load_file(source / "model.safetensors")
    save_file({k: v for k, v in tensors.items() if k != "image_projection"}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointMismatch, match="image_projection"):
        convert_florence("ag-kd", tmp_path, tmp_path, inner=32, size=SIZE)


def test_the_released_layout() -> None:
    layout = Layout.load("ag-kd")
    with torch.device("meta"):
        vision, bart = networks(BASE)
    held = {key: tuple(value.shape) for key, value in vision.state_dict().items()}
    held |= {f"language_model.{key}": tuple(value.shape) for key, value in bart.state_dict().items()}
    assert held == layout.shapes


BOX = "pleural effusion<loc_100><loc_200><loc_300><loc_400>"


def told(model: Model, monkeypatch: pytest.MonkeyPatch, endings: Sequence[Ending], text: str) -> Any:
    """What becomes of these texts, one for each target in turn."""
    adapter: Any = model._adapter
    left = list(endings)
    monkeypatch.setattr(adapter, "written", lambda *given: Written((1,), left.pop(0) if len(left) > 1 else left[0]))

    class Words:
        def decode(self, tokens: Sequence[int], **how: bool) -> str:
            return text

    monkeypatch.setitem(adapter.__dict__, "_tokenizer", Words())
    monkeypatch.setattr(adapter, "question", lambda *given, **words: "?")
    return model.run({"image": radiograph()}, {})


def test_a_text_cut_off_before_a_box_is_no_answer(
    pair: tuple[Reference, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InferenceFailed, match="cut off before it pointed"):
        told(pair[1], monkeypatch, [Ending.LENGTH], BOX)


def test_what_was_not_pointed_at_in_time_is_said(
    pair: tuple[Reference, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = told(pair[1], monkeypatch, [Ending.LENGTH, Ending.STOPPED], BOX)
    assert result.outcome is Outcome.FOUND
    assert "pointing_cut_off" in result.limitations
    whole = told(pair[1], monkeypatch, [Ending.STOPPED], BOX)
    assert "pointing_cut_off" not in whole.limitations


def test_words_read_in_the_picture_are_kept_nowhere(
    pair: tuple[Reference, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = told(pair[1], monkeypatch, [Ending.STOPPED], f"YAMADA TARO {BOX}")
    assert result.marks and "YAMADA" not in repr(result)
    assert {each["boxes"] for each in result.evidence["pointed"].values()} == {1}
