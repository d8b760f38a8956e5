"""Image-reading language models: published folders convert, and write the tokens transformers writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.errors import CheckpointMismatch
from models.generation.limits import Limits
from models.generation.options import Cache
from models.generation.pictures import patch_places
from models.generation.prompting import PromptForm, embedded_prompt
from models.generation.strategies import Strategy, write
from models.generation.wiring import DecoderOnly
from models.model import Model

torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("transformers", reason="the comparison needs transformers")

from safetensors.torch import load_file, save_file  # noqa: E402

from models.export import bimedix2, fleming_vl, hulu_med, llava_med, medgemma  # noqa: E402
from models.export.qwen_vl import convert_qwen  # noqa: E402
from tests.unit.models_generation import references  # noqa: E402
from tests.unit.models_generation.references import IMAGE_TOKEN, Reference  # noqa: E402
from tests.unit.models_generation.released import STOP, ids_of  # noqa: E402

pytestmark = pytest.mark.slow

GRIDS = ((4, 6), (8, 4))
PLACED = ((4, 6, 1), (8, 4, 2))
"""Rows and columns of patches, and how many of either become one token."""


def qwen(system: str) -> Callable[[Path, Path], Any]:
    return lambda checkpoint, folder: convert_qwen(system, checkpoint, folder, maximum=64, grids=GRIDS)


@dataclass(frozen=True)
class Case:
    """A system, its small reference, its converter, and what its images are: sizes of pixels, or grids."""

    make: Callable[[Path], Reference]
    convert: Callable[[Path, Path], Any]
    images: tuple[tuple[int, ...], ...]
    form: dict[str, Any]


SQUARE = ((1, 3, 56, 56), (1, 3, 56, 56))
CASES = {
    "llava-med": Case(lambda f: references.llava(f, llama=False), llava_med.convert, SQUARE, {}),
    "bimedix2": Case(lambda f: references.llava(f, llama=True), bimedix2.convert, SQUARE, {}),
    "medgemma": Case(references.gemma, medgemma.convert, SQUARE, {"image_sees_itself": True}),
    "med-r1": Case(lambda f: references.qwen(f, gated=False), qwen("med-r1"), GRIDS, {"positions": "sections"}),
    "lingshu": Case(lambda f: references.qwen(f, gated=True), qwen("lingshu"), GRIDS, {"positions": "sections"}),
    "hulu-med-7b": Case(lambda f: references.hulu(f, three=False), hulu_med.convert, PLACED, {}),
    "hulu-med-4b": Case(lambda f: references.hulu(f, three=True), hulu_med.convert, PLACED, {}),
    "fleming-vl": Case(references.intern, fleming_vl.convert, ((1, 3, 56, 56), (3, 3, 56, 56)), {}),
}


@dataclass(frozen=True)
class Converted:
    """One system as transformers runs it and as the node does."""

    case: Case
    reference: Reference
    model: Model
    report: dict[str, Any]


@pytest.fixture(scope="module", params=list(CASES))
def converted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Converted:
    case = CASES[request.param]
    reference = case.make(tmp_path_factory.mktemp(request.param))
    folder = tmp_path_factory.mktemp(f"{request.param}-out")
    report = case.convert(reference.folder, folder).report()
    return Converted(case, reference, Model(folder, threads=1), report)


def prompt_of(
    converted: Converted, image: tuple[int, ...], words: int, seed: int
) -> tuple[dict[str, Any], DecoderOnly]:
    """The same prompt for transformers and for the loop."""
    generator = torch.Generator().manual_seed(seed)
    flat, placed = len(image) == 2, len(image) == 3
    size = (image[0] * image[1], 96 if flat else 48) if flat or placed else image
    pixels = torch.randn(size, generator=generator)
    name = f"vision_{image[0]}x{image[1]}" if flat else "vision"
    feeds = {"pixel_values": pixels.numpy()}
    if placed:
        feeds["places"] = patch_places((image[0], image[1]), image[2])
    features = converted.model.session(name).run(feeds)["image_features"]
    features = features.reshape(-1, features.shape[-1])
    before = torch.randint(3, 110, (3,), generator=generator).tolist()
    after = torch.randint(3, 110, (words,), generator=generator).tolist()
    ids = torch.tensor([[*before, *([IMAGE_TOKEN] * len(features)), *after]])
    given: dict[str, Any] = {"input_ids": ids, "pixel_values": pixels, "attention_mask": torch.ones_like(ids)}
    kinds = (ids == IMAGE_TOKEN).long()
    if flat:
        given |= {"image_grid_thw": torch.tensor([[1, *image]]), "mm_token_type_ids": kinds}
    if placed:
        given |= {"image_grid_thw": torch.tensor([[1, *image[:2]]]), "image_merge_sizes": torch.tensor([image[2]])}
    if "image_sees_itself" in converted.case.form:
        given["token_type_ids"] = kinds
    form = PromptForm(text="{image}", questions={"en": ""}, **converted.case.form)
    embed, cache = converted.model.session("embed"), converted.model.card.options["cache"]
    merged = (image[0] // 2, image[1] // 2) if flat else (0, 0)
    prompt = embedded_prompt(embed, (before, after), features, form, image_token=IMAGE_TOKEN, merged_grid=merged)
    told = Cache.model_validate(cache)
    return given, DecoderOnly(embed, converted.model.session("decoder"), prompt, told.shape(), window=told.window)


def test_nothing_is_missing_and_graphs_equal_torch(converted: Converted) -> None:
    assert (converted.report["missing"], converted.report["unexpected"]) == (0, 0)
    for graph in converted.report["graphs"].values():
        assert max(graph["relative_differences"]) < 1e-4
    converted.model.self_test()


def test_the_first_logits_are_those_of_transformers(converted: Converted) -> None:
    for seed, image in enumerate(converted.case.images):
        for words in (2, 9):
            given, reader = prompt_of(converted, image, words, seed)
            with torch.no_grad():
                expected = converted.reference.model(**given).logits[:, -1].numpy()
            found = reader.start()
            assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_the_tokens_are_those_of_transformers(converted: Converted) -> None:
    distinct: set[int] = set()
    for seed, image in enumerate(converted.case.images):
        for words in (2, 9):
            for settings, strategy in (({}, Strategy()), ({"num_beams": 3}, Strategy(kind="beams", beams=3))):
                given, reader = prompt_of(converted, image, words, seed)
                made = converted.reference.model.generate(**given, max_new_tokens=16, do_sample=False, **settings)
                written = write(reader, strategy, Limits(16, (STOP,)))
                assert list(written.tokens) == ids_of(made, given["input_ids"].shape[1]), (settings, image, words)
                distinct.update(written.tokens)
    assert len(distinct) >= 12


def test_one_key_too_few_or_too_many_is_refused(converted: Converted, tmp_path: Path) -> None:
    source = converted.reference.folder
    for file in source.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    whole = load_file(source / "model.safetensors")
    out = tmp_path / "out"
    out.mkdir()
    first = next(key for key in whole if "layers.0" in key)
    save_file({k: v.clone() for k, v in whole.items() if k != first}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointMismatch, match="missing"):
        converted.case.convert(tmp_path, out)
    more = {**{k: v.clone() for k, v in whole.items()}, f"{first}.extra": torch.zeros(1)}
    save_file(more, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointMismatch, match="unexpected"):
        converted.case.convert(tmp_path, out)
