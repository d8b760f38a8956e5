"""BiomedGPT converts from both published layouts, and writes what a plain OFA without cache writes."""

from __future__ import annotations

import argparse
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.errors import CheckpointMismatch, CheckpointUnsafe
from models.export.systems import described
from models.generation.constraints import NeverFrom, NoRepeatedNgram
from models.generation.limits import Limits
from models.generation.prompting import PromptForm, embedded_prompt, prompt_pieces, worded
from models.generation.strategies import Strategy, write
from models.generation.wiring import CacheShape, EncoderDecoder
from models.model import Model

torch = pytest.importorskip("torch", reason="conversion needs torch")

from models.export.biomedgpt import convert  # noqa: E402
from models.export.checkpoint import Layout  # noqa: E402
from models.export.ofa_layout import load_ofa, our_key  # noqa: E402
from models.export.ofa_network import Ofa, OfaShape  # noqa: E402
from models.export.ofa_positions import image_buckets, token_buckets  # noqa: E402
from tests.unit.models_generation import ofa_reference  # noqa: E402
from tests.unit.models_generation.ofa_reference import BASE, BINS, CODES, Reference, Sizes  # noqa: E402

pytestmark = pytest.mark.slow

WORDS = ("what", "does", "the", "image", "describe", "lung", "left", "right")
PICTURES = (48, 80)
PROMPTS = ("what does the image describe", "which lung is left, and which is right of the image")


def fairseq_key(key: str) -> str:
    """What fairseq's layout calls it (taokz/BiomedGPT@7ebbfb8, OFA-Sys/OFA@0305cb7)."""
    key = re.sub(r"^(decoder.*)\.cross_attn(_layer_norm)?\.", r"\1.encoder_attn\2.", key)
    key = re.sub(r"^(decoder.*)\.(self|cross)_attn_mid_layer_norm\.", r"\1.\2_attn_ln.", key)
    key = re.sub(r"^(encoder.*)\.self_attn_mid_layer_norm\.", r"\1.attn_ln.", key)
    return key.replace(".ffn_layer_norm.", ".ffn_layernorm.")


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> tuple[Reference, Path]:
    """A small release: random weights, and its folder."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("biomedgpt")
    sizes = Sizes(ofa_reference.write_vocabulary(folder, WORDS))
    tensors = ofa_reference.checkpoint(sizes, 1, 0.3)
    torch.save(tensors, folder / "pytorch_model.bin")
    return Reference(sizes, tensors), folder


@pytest.fixture(scope="module", params=PICTURES)
def pair(
    request: pytest.FixtureRequest, released: tuple[Reference, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Reference, Model, int]:
    reference, source = released
    given, folder = (tmp_path_factory.mktemp(f"biomedgpt-{n}") for n in ("in", "out"))
    shutil.copytree(source, given, dirs_exist_ok=True)
    (given / "config.json").write_text(json.dumps({"model_type": "ofa", "patch_image_size": request.param}))
    report = convert(given, folder).report()
    assert (report["missing"], report["unexpected"]) == (0, 0)
    assert all(max(graph["relative_differences"]) < 1e-4 for graph in report["graphs"].values())
    return reference, Model(folder, threads=1), request.param


def reader(model: Model, pixels: Any, question: str) -> tuple[EncoderDecoder, list[int]]:
    adapter: Any = model._adapter
    form = adapter.options.prompt
    before, after = prompt_pieces(form, question, adapter._tokenizer)
    assert not before
    features = model.session("vision").run({"pixel_values": pixels.numpy()[None]})["image_features"][0]
    given = embedded_prompt(model.session("embed"), (before, after), features, form)
    cross = model.session("encoder").run({"inputs_embeds": given.embeds})
    assert cross["cross.0.k"].shape[-1] == 2 * cross["cross.0.v"].shape[-1]
    return EncoderDecoder(model.session("decoder"), cross, CacheShape(2, 4, 8), [0]), after


def test_the_logits_are_those_of_the_reference(pair: tuple[Reference, Model, int]) -> None:
    reference, model, size = pair
    seen = []
    for seed, question in enumerate(PROMPTS):
        pixels = torch.randn(3, size, size, generator=torch.Generator().manual_seed(seed))
        ours, prompt = reader(model, pixels, question)
        written = [0, *torch.randint(4, 260, (11,), generator=torch.Generator().manual_seed(seed)).tolist()]
        with torch.no_grad():
            expected = reference.logits(reference.encode(pixels, prompt), written).numpy()
            other = reference.logits(reference.encode(pixels.flip(-1), prompt), written).numpy()
            seen.append(float(np.abs(other - expected).max() / np.abs(expected).max()))
        found = [ours.start()[0], *(ours.step([token])[0] for token in written[1:])]
        assert np.abs(np.stack(found) - expected).max() < 1e-4 * np.abs(expected).max()
    assert min(seen) > 1e-2, "logits do not depend on the image"


def test_the_tokens_are_those_of_the_reference(pair: tuple[Reference, Model, int]) -> None:
    reference, model, size = pair
    text = reference.s.vocabulary - CODES - BINS
    written: set[int] = set()
    for seed, question in enumerate(PROMPTS):
        pixels = torch.randn(3, size, size, generator=torch.Generator().manual_seed(10 + seed))
        for beams, strategy in (
            (1, Strategy()),
            (3, Strategy(kind="beams", beams=3, early_stopping=True)),
            (5, Strategy(kind="beams", beams=5, early_stopping=True)),
        ):
            ours, prompt = reader(model, pixels, question)
            expected = reference.write(pixels, prompt, [0], beams=beams, longest=14, last=text)
            made = write(ours, strategy, Limits(14, (2,)), (NoRepeatedNgram(3), NeverFrom(text)))
            assert list(made.tokens) == expected, (beams, question)
            written.update(expected)
    assert len(written) >= 8
    assert max(written) < text


def test_pieces_of_images_and_places_never_come_out(pair: tuple[Reference, Model, int]) -> None:
    reference, model, size = pair
    text = reference.s.vocabulary - CODES - BINS
    ours, _ = reader(model, torch.zeros(3, size, size), PROMPTS[0])
    free = write(ours, Strategy(), Limits(14, (2,)))
    assert max(free.tokens) >= text, "nothing to hold back"
    adapter: Any = model._adapter
    decoding = adapter.options.decoding
    assert decoding.text_tokens == text
    assert NeverFrom(text) in decoding.constraints(adapter._tokenizer)
    assert adapter._tokenizer.token_to_id("<code_0>") == text
    assert adapter._tokenizer.token_to_id("<bin_999>") == reference.s.vocabulary - 1


def test_fairseqs_file_makes_the_same_graphs(released: tuple[Reference, Path], tmp_path: Path) -> None:
    reference, source = released
    given, first, second = (tmp_path / name for name in ("in", "one", "two"))
    for folder in (given, first, second):
        folder.mkdir()
    shutil.copy(source / "vocab.json", given)
    shutil.copy(source / "merges.txt", given)
    (given / "config.json").write_text('{"patch_image_size": 48}')
    tensors = {fairseq_key(key): value for key, value in reference.t.items() if not key.endswith("num_batches_tracked")}
    tensors |= {"encoder.version": torch.tensor([3.0]), "decoder.version": torch.tensor([3.0])}
    arguments = argparse.Namespace(arch="ofa_tiny", patch_image_size=256)
    torch.save({"args": arguments, "model": tensors, "extra_state": {"epoch": 3}}, given / "checkpoint_best.pt")
    convert(given / "checkpoint_best.pt", first)
    shutil.copy(source / "pytorch_model.bin", given)
    convert(given, second)
    for name in ("vision.onnx", "embed.onnx", "encoder.onnx", "decoder.onnx", "tokenizer.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


class _Runs:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (exec, ("raise SystemExit",))


def test_a_file_that_would_run_something_is_refused(released: tuple[Reference, Path], tmp_path: Path) -> None:
    reference, source = released
    shutil.copy(source / "vocab.json", tmp_path)
    shutil.copy(source / "merges.txt", tmp_path)
    torch.save({"args": _Runs(), "model": reference.t}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointUnsafe):
        convert(tmp_path / "evil.pt", tmp_path)


def test_other_layouts_are_refused(released: tuple[Reference, Path], tmp_path: Path) -> None:
    tensors = dict(released[0].t)
    with pytest.raises(CheckpointMismatch, match=r"unexpected: encoder\.layers\.0\.adapter"):
        load_ofa({**tensors, "encoder.layers.0.adapter.up_proj.weight": torch.zeros(1)})
    for lost in ("encoder.layers.1.self_attn.c_attn", "decoder.cross_pos_k_linear.bias", "encoder.image_rp_bucket"):
        with pytest.raises(CheckpointMismatch, match=f"missing: {lost}"):
            load_ofa({key: value for key, value in tensors.items() if key != lost})
    with pytest.raises(CheckpointMismatch, match="embeddings of encoder"):
        load_ofa({**tensors, "decoder.embed_tokens.weight": tensors["decoder.embed_tokens.weight"] + 1})
    once = {key: value for key, value in tensors.items() if key != "decoder.output_projection.weight"}
    assert isinstance(load_ofa(once), Ofa)
    for stated, said in (
        ({"normformer": False, "scale_embedding": True}, "scale_embedding = True, normformer = False"),
        ({"model_type": "bart"}, "model_type = bart"),
        ({"patch_image_size": 100}, "patch_image_size 100"),
        ({"patch_image_size": 112}, "up to 96"),
    ):
        shutil.copytree(released[1], tmp_path, dirs_exist_ok=True)
        (tmp_path / "config.json").write_text(json.dumps(stated))
        with pytest.raises(CheckpointMismatch, match=said):
            convert(tmp_path, tmp_path)
    ofa_reference.write_vocabulary(tmp_path, ("other",))
    with pytest.raises(CheckpointMismatch, match="the weights have"):
        (tmp_path / "config.json").unlink()
        convert(tmp_path, tmp_path)
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(CheckpointMismatch, match=r"merges\.txt"):
        convert(tmp_path, tmp_path)


def test_the_released_size_has_the_released_keys() -> None:
    layout = Layout.load("biomedgpt")
    with torch.device("meta"):
        ofa = Ofa(OfaShape(vocabulary=59457, width=768, heads=12, hidden=3072, encoder_layers=6, layers=6))
    held = {key: tuple(value.shape) for key, value in ofa.state_dict().items()}
    assert held == layout.shapes == ofa_reference.shapes(BASE)
    assert sum(value.numel() for value in ofa.parameters()) / 1e6 == pytest.approx(182, abs=0.5)
    older = Layout.load("biomedgpt-fairseq").shapes
    versions = {"encoder.version", "decoder.version"}
    assert older.keys() - versions == {fairseq_key(key) for key in held}
    assert {our_key(key): shape for key, shape in older.items() if key not in versions} == held
    assert described()["biomedgpt"].keys == str(len(layout.shapes))


def test_buckets_are_those_of_the_definition() -> None:
    for sizes in (Sizes(0), Sizes(0, token_size=256, places=1024)):
        made = token_buckets(sizes.token_size, sizes.places)
        for row, column in np.random.default_rng(0).integers(0, sizes.places, (400, 2)).tolist():
            assert int(made[row, column]) == ofa_reference.token_bucket(row, column, sizes), (row, column)
    sizes = Sizes(0)
    made = image_buckets(sizes.image_size)
    count = sizes.image_size**2 + 1
    expected = [[ofa_reference.cell_bucket(i, j, sizes) for j in range(count)] for i in range(count)]
    assert made.tolist() == expected


def test_a_question_is_worded_as_the_model_learnt_it() -> None:
    form = PromptForm(text="{image}<s> {question}</s>", questions={"en": "x"}, wording="lower")
    assert worded("Is there a Left-sided effusion", form) == "is there a left sided effusion?"
    assert worded("PA/AP view?", form) == "pa ap view?"
    assert worded("Is  it\nthere?", form.model_copy(update={"wording": "as_asked"})) == "Is  it\nthere?"
