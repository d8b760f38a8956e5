"""Chains made by ``ainode models chain``: every recipe becomes a card that works, and what does not fit is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from models.answers import answer
from models.chains.calculators import CALCULATORS
from models.chains.recipe import recipes
from models.questions import Question
from models.registry import Registry
from models.report import draft
from models.results import Change, Comparison, Outcome
from node.cli import main
from tests.unit.models_chains.test_chains import ListedCorpus, ScriptedChat, radiograph
from tests.unit.models_classifier.conftest import write_model


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A node with a classifier of known findings in its folder of models."""
    write_model(tmp_path / "site" / "known")
    (tmp_path / "node.toml").write_text(
        f'[node]\ndata_dir = "{tmp_path / "data"}"\n[models]\nfolders = ["{tmp_path / "site"}"]\n'
    )
    return tmp_path


def make(site: Path, recipe: str, *words: str) -> int:
    out = site / "site" / recipe
    return main(["--config", str(site / "node.toml"), "models", "chain", recipe, *words, "--out", str(out)])


def chained(site: Path, say: Callable[[str], str]) -> tuple[ScriptedChat, Registry]:
    chat = ScriptedChat(say)
    registry = Registry([site / "site"], threads=1, chat=chat, corpus=ListedCorpus())
    assert not registry.problems
    return chat, registry


def test_every_recipe_is_listed_with_its_places(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "chain"]) == 0
    told = capsys.readouterr().out
    for name, recipe in recipes().items():
        assert f"{name}: " in told
        assert all(f"--member {place}=MODEL" in told for place in recipe.members)


def test_a_chatcad_of_this_site(site: Path) -> None:
    # The classifier stands in for the report generator: what it says are its findings in sentences.
    members = ("classifier=known-findings", "reporter=known-findings", "writer=medgpt")
    assert make(site, "chatcad", *(word for each in members for word in ("--member", each))) == 0
    chat, registry = chained(site, lambda told: "Pleural effusion is present. No pneumothorax.")
    model = registry.get("chatcad")
    inputs = radiograph(220.0, 30.0)
    result = model.run(inputs, {})
    assert {each.concept.meaning for each in result.findings if each.present} == {"Pleural effusion"}
    written = draft(result, "en", generator=model, inputs=inputs)
    assert written.impression == "Pleural effusion is present. No pneumothorax." and not written.objections
    told = chat.told()
    assert "Network A says: No sign" in told or "Network A says: Definitely have Pleural effusion." in told
    assert "{" not in told


def test_experts_are_called_by_the_name_the_site_gives_them(site: Path) -> None:
    assert make(site, "vila-m3", "--member", "reader=medgpt", "--tool", "CXR=known-findings") == 0
    chat, registry = chained(site, lambda told: "An effusion." if "predictions" in told else "<CXR()>")
    result = answer(registry.get("vila-m3"), Question("Effusion?", "order", "en"), radiograph(220.0, 30.0), ["en"])
    assert result.outcome is not Outcome.NOT_ASSESSED and "An effusion." in result.drafts[0].impression
    assert "by writing one of these, and nothing else of that kind: <CXR()>." in chat.told(0)
    assert "Definitely have Pleural effusion." in chat.told(1)


def test_calculators_are_offered_with_their_units(site: Path) -> None:
    assert make(site, "menti", "--member", "reader=medgpt") == 0
    chat, registry = chained(
        site, lambda told: "30 mL." if "predictions" in told else "<ABC_HALF(a=50 mm, b=4 cm, c=3 cm)>"
    )
    result = answer(registry.get("menti"), Question("How large?", "order", "en"), radiograph(220.0, 30.0), ["en"])
    assert "30 mL." in result.drafts[0].impression
    assert all(f"<{name.upper()}(" in chat.told(0) for name in CALCULATORS)
    assert "Haematoma volume ABC/2: 30 mL" in chat.told(1)


def test_reports_of_the_site_stand_beside_the_question(site: Path) -> None:
    assert make(site, "mmed-rag", "--member", "reader=medgpt", "--id", "our-rag") == 0
    chat, registry = chained(site, lambda told: "No effusion.")
    result = answer(registry.get("our-rag"), Question("Effusion?", "order", "en"), radiograph(30.0, 30.0), ["en"])
    assert "No effusion." in result.drafts[0].impression
    assert "#12: Effusion on the left." in chat.told()


def test_answers_come_from_what_was_measured(site: Path) -> None:
    assert make(site, "measure", "--member", "segmenter=known-findings", "--member", "reader=medgpt") == 0
    chat, registry = chained(site, lambda told: "There is an effusion.")
    answer(registry.get("measure"), Question("Effusion?", "order", "en"), radiograph(220.0, 30.0), ["en"])
    assert "Measured in these images:" in chat.told() and "leural effusion" in chat.told()


def test_change_is_told_to_the_writer(site: Path) -> None:
    assert make(site, "change", "--member", "writer=medgpt") == 0
    chat, registry = chained(site, lambda told: "Pleural effusion is present. No pneumothorax.")
    inputs = radiograph(220.0, 30.0)
    written = draft(
        registry.get("known-findings").run(inputs, {}), "en", generator=registry.get("change"), inputs=inputs
    )
    assert written.impression == "Pleural effusion is present. No pneumothorax."
    assert "Measured: " in chat.told() and "leural effusion" in chat.told()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("chatcad", "--member", "classifier=known-findings"), "needs reporter"),
        (("mmed-rag", "--member", "reader=medgpt", "--member", "judge=medgpt"), "no place for judge"),
        (("mmed-rag", "--member", "reader=known-findings"), "takes no prompts of a chain"),
        (("mmed-rag", "--member", "reader=medgpt", "--tool", "CXR=known-findings"), "nothing may be called"),
        (("vila-m3", "--member", "reader=medgpt"), "needs a model that may be called"),
        (("vila-m3", "--member", "reader=medgpt", "--tool", "CXR=medgpt"), "not run on images alone"),
        (("vila-m3", "--member", "reader=medgpt", "--tool", "cxr=known-findings"), "the name in capitals"),
        (("mmed-rag", "--member", "reader"), "write PLACE=MODEL"),
        (("mmed-rag", "--member", "reader=gone"), "no model named gone"),
        (("no-such", "--member", "reader=medgpt"), "no recipe named no-such"),
        (("mmed-rag", "--member", "reader=medgpt", "--id", "medgpt"), "is installed"),
        (
            ("vila-m3", "--member", "reader=medgpt", "--tool", "A=known-findings", "--tool", "B=infarct-adc-baseline"),
            "infarct-adc-baseline takes",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    site: Path, words: tuple[str, ...], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make(site, *words) in (1, 2)
    assert why in capsys.readouterr().err
    assert not (site / "site" / words[0]).exists()


def test_a_card_is_not_written_over(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for expected in (0, 2):
        assert make(site, "mmed-rag", "--member", "reader=medgpt") == expected
    assert "new folder" in capsys.readouterr().err
    shutil.rmtree(site / "site" / "mmed-rag")
    assert make(site, "mmed-rag", "--member", "reader=medgpt") == 0


@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_real_change_is_told_without_its_day(site: Path, language: str) -> None:
    assert make(site, "change", "--member", "writer=medgpt") == 0
    said = {"en": "Pleural effusion, larger than on the prior study.", "ja": "胸水を認める。前回より増大している。"}
    chat, registry = chained(site, lambda told: said[language])
    inputs = radiograph(220.0, 30.0)
    comparison = Comparison("1", "2", "3", "4", "20260103", 12.3, 6.0, Change.LARGER)
    result = replace(registry.get("known-findings").run(inputs, {}), comparison=comparison)
    for writer in ("change", "medgpt"):
        written = draft(result, language, generator=registry.get(writer), inputs=inputs)
        assert said[language] in written.impression and not written.objections
        # A day would stop the call at the gate, and so every report of a study that has an earlier one.
        assert "2026" not in chat.told() and "2026-01-03" in written.impression
    assert chat.told(0).count("12.3 mL") == 1
    assert "12.3 mL" not in chat.told(1), "what cannot word a comparison is told of none"
