"""A small BiomedGPT that was trained to answer does, from the pixels and the words, and within a closed set."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.chains.assembly import NamedTool, assemble
from models.chains.recipe import recipe_of
from models.chat import TextPart
from models.errors import CardInvalid
from models.export.card_text import toml_text
from models.generation.pictures import picture_of
from models.model import Model
from models.questions import Question
from models.registry import Registry
from models.volume import Volume
from tests.unit.models_chains.test_chains import ScriptedChat

torch = pytest.importorskip("torch", reason="conversion needs torch")

from models.export.biomedgpt import convert  # noqa: E402
from tests.unit.models_generation import trained_ofa  # noqa: E402
from tests.unit.models_generation.ofa_reference import Reference, Sizes  # noqa: E402

pytestmark = pytest.mark.slow

DECODING = "[options.decoding]\n"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_ofa.biomedgpt(tmp_path_factory.mktemp("answers-in"))


@pytest.fixture(scope="module")
def folder(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("answers-out")
    convert(checkpoint, made)
    return made


def radiograph(side: str, seed: int = 0) -> Volume:
    values = np.random.default_rng(seed).integers(0, 800, (1, 96, 64)).astype(np.float32)
    values[:, :, slice(0, 32) if side == "left" else slice(32, 64)] += 3200
    return Volume(values, np.eye(4), facts={"maximum_value": 4095})


def changed(folder: Path, copy: Path, *lines: str) -> Model:
    """A model whose card says more about decoding."""
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    card = copy / "model.toml"
    text = card.read_text(encoding="utf-8").replace(DECODING, DECODING + "".join(f"{line}\n" for line in lines))
    card.write_text(text, encoding="utf-8")
    return Model(copy, threads=1)


@pytest.mark.parametrize("side", ["left", "right"])
def test_what_it_sees_and_what_it_is_asked(folder: Path, side: str) -> None:
    model, volume = Model(folder, threads=1), radiograph(side, 3)
    result = model.run({"image": volume}, {})
    (draft,) = result.drafts
    assert draft.findings == trained_ofa.ANSWERS[trained_ofa.SEEN, side]
    assert result.evidence == {"text_ended": {"en": "stopped"}}
    assert "language_model" in result.limitations
    answer = model.answer(Question("Which LUNG is-clear", "order", "en"), {"image": volume}, "en")
    assert answer.impression == trained_ofa.ANSWERS[trained_ofa.ASKED, side]
    assert answer.looked_at == (0,)


def test_a_chain_puts_its_prompt_to_a_model_that_runs_here(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "biomedgpt")
    members = {"reader": Model(folder, threads=1)}
    content = assemble("mmed-rag", recipe_of("mmed-rag"), members, [], model_id="our-chain")
    content["options"]["steps"] = [
        {"name": "answer", "kind": "ask", "model": "biomedgpt", "template": {"en": "{question}"}}
    ]
    (tmp_path / "chain").mkdir()
    (tmp_path / "chain" / "model.toml").write_text(toml_text(content), encoding="utf-8")
    chain = Registry([tmp_path], threads=1).get("our-chain")
    assert [each.role for each in chain.card.inputs] == ["image"]
    for side in ("left", "right"):
        answer = chain.answer(Question("Which LUNG is-clear", "order", "en"), {"image": radiograph(side, 3)}, "en")
        assert answer.impression == trained_ofa.ANSWERS[trained_ofa.ASKED, side]
        assert answer.looked_at == (0,)


@pytest.mark.parametrize("called", [False, True], ids=["a step", "a tool"])
def test_what_it_reads_goes_on_as_words_of_people_do(folder: Path, tmp_path: Path, called: bool) -> None:
    shutil.copytree(folder, tmp_path / "biomedgpt")
    card = tmp_path / "biomedgpt" / "model.toml"
    card.write_text(re.sub(r"(?m)^maximum_tokens = .*$", "maximum_tokens = 2", card.read_text(encoding="utf-8")))
    chat = ScriptedChat(lambda told: "Seen." if "effusion" in told or "lung" in told else "<SEE()>")
    members = {"reader": Registry(threads=1, chat=chat).get("medgpt")}
    tools = [NamedTool("SEE", Model(folder, threads=1))]
    content = assemble("vila-m3", recipe_of("vila-m3"), members, tools, model_id="our-chain")
    if not called:
        content["options"]["steps"] = [
            {"name": "seen", "kind": "run", "model": "biomedgpt"},
            {"name": "answer", "kind": "ask", "model": "medgpt", "template": {"en": "{seen} {question}"}},
        ]
    (tmp_path / "chain").mkdir()
    (tmp_path / "chain" / "model.toml").write_text(toml_text(content), encoding="utf-8")
    chain = Registry([tmp_path], threads=1, chat=chat).get("our-chain")
    answer = chain.answer(Question("?", "order", "en"), {"image": radiograph("left", 3)}, "en")
    read = trained_ofa.ANSWERS[trained_ofa.SEEN, "left"].split()[0]
    parts = [part for part in chat.requests[-1].parts if isinstance(part, TextPart) and read in part.text]
    assert [part.free for part in parts] == [True]
    assert answer.impression == "Seen."
    assert any("cut off" in note for note in answer.notes)


def test_words_that_look_like_tokens_stay_words(folder: Path) -> None:
    model = Model(folder, threads=1)
    asked = Question("</s><code_7> which lung<bin_3> is clear </s>", "order", "en")
    answer = model.answer(asked, {"image": radiograph("left")}, "en")
    assert answer.impression == trained_ofa.ANSWERS[trained_ofa.ASKED, "left"]


def test_a_closed_set_of_answers_is_kept_to(folder: Path, tmp_path: Path) -> None:
    model = changed(folder, tmp_path / "closed", 'answers = [" left lung clear", " effusion left", " image"]')
    answer = model.answer(Question("which lung is clear", "order", "en"), {"image": radiograph("left")}, "en")
    assert answer.impression in ("left lung clear", "effusion left", "image")
    open_answer = trained_ofa.ANSWERS[trained_ofa.ASKED, "left"]
    assert answer.impression != open_answer


def test_a_decoder_that_repeats_the_question_begins_behind_it(checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    model = changed(folder, tmp_path / "repeats", "repeats_prompt = true")
    adapter: Any = model._adapter
    picture = picture_of(radiograph("right"), adapter.options.image)
    reading = adapter.reader(picture, "which lung is clear", "en")
    prompt = [0, *adapter._tokenizer.encode(f" {trained_ofa.ASKED}").ids, 2]
    assert reading.prompt == tuple(prompt[:-1])
    tensors = torch.load(checkpoint / "pytorch_model.bin", weights_only=True)
    sizes = Sizes(tensors["encoder.embed_tokens.weight"].shape[0], encoder_layers=1, decoder_layers=1)
    reference = Reference(sizes, tensors)
    with torch.no_grad():
        encoded = reference.encode(torch.from_numpy(picture.pixels[0]), prompt)
        expected = reference.logits(encoded, prompt[:-1])[-1].numpy()
    assert np.abs(reading.start()[0] - expected).max() < 1e-4 * np.abs(expected).max()


def test_only_a_model_with_a_prompt_in_its_encoder_repeats_it(folder: Path, tmp_path: Path) -> None:
    changed(folder, tmp_path / "wrong", "repeats_prompt = true")
    card = tmp_path / "wrong" / "model.toml"
    card.write_text(card.read_text(encoding="utf-8").replace('"prompt_encoder"', '"decoder"'))
    with pytest.raises(CardInvalid, match="repeats_prompt"):
        Model(tmp_path / "wrong").warm()
