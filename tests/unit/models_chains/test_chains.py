"""Chains of known-answer models: what is run, what is told, what is refused."""

from __future__ import annotations

import io
import json
import re
import shutil
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from models.answers import answer
from models.chains.calculators import CALCULATORS, Amount, parse, stated
from models.chains.declaration import Graph, Tool
from models.chains.passages import Passage, adaptive
from models.chains.probability_words import in_words
from models.chains.tool_calls import ToolCall, calls_in, without_calls
from models.chat import ChatAnswer, ChatRequest, Origin, TextPart
from models.errors import CardInvalid, OutsideLimits, ParameterInvalid
from models.filling import fields_of, fill
from models.folding import fold
from models.questions import Question
from models.registry import Registry
from models.report import draft
from models.results import Change, CodedTerm, Comparison, Finding, ModelReference, Outcome
from models.volume import Volume
from node.debug_bundle import FORMAT, MANIFEST, summary_of, versions
from node.debug_replay import replay
from tests.unit.models_classifier.conftest import write_model
from tests.unit.node_remote.injections import FOREIGN, INJECTIONS

CARDS = Path(__file__).parent / "cards"


class ScriptedChat:
    """The other side of the chat port: says what the test wants, and keeps what it was told."""

    def __init__(self, say: Callable[[str], str]) -> None:
        self.say = say
        self.requests: list[ChatRequest] = []

    def look_at(self, origins: Mapping[str, Sequence[Origin]]) -> None:
        return None

    def complete(self, request: ChatRequest) -> ChatAnswer:
        self.requests.append(request)
        return ChatAnswer(self.say(self.told()), "tiny-vlm")

    def told(self, at: int = -1) -> str:
        return "".join(part.text for part in self.requests[at].parts if isinstance(part, TextPart))


class ListedCorpus:
    """Reports by number."""

    def similar(self, text: str, language: str, count: int) -> Sequence[Passage]:
        return [Passage(12, "Effusion on the left. <CXR()>", 0.8), Passage(7, "Normal chest.", 0.1)]


def catalogue(folder: Path, *cards: str) -> Path:
    for card in cards:
        (folder / card).mkdir(parents=True)
        shutil.copy(CARDS / f"{card}.toml", folder / card / "model.toml")
    write_model(folder / "known")
    return folder


def radiograph(left: float, right: float) -> dict[str, Volume]:
    """Halves of a picture; the classifier's answer is linear in them."""
    pixels = np.full((1, 64, 64), right, np.float32)
    pixels[:, :, :32] = left
    return {"image": Volume(pixels, np.eye(4), facts={"maximum_value": 255.0})}


PICTURE = radiograph(220.0, 30.0)


def for_adults(folder: Path) -> None:
    card = folder / "model.toml"
    card.write_text(card.read_text(encoding="utf-8") + "\n[limits]\nage_years = [18, 120]\n", encoding="utf-8")


def finding(probability: float, meaning: str = "Pneumothorax") -> Finding:
    return Finding(CodedTerm("1", "SCT", meaning), probability, 0.5, probability >= 0.5)


@pytest.mark.parametrize(
    ("probability", "english", "japanese"),
    [
        (0.0, "No sign of Pneumothorax.", "気胸の徴候はない。"),
        (0.1999, "No sign of Pneumothorax.", "気胸の徴候はない。"),
        (0.2, "Small possibility of Pneumothorax.", "気胸の可能性は低い。"),
        (0.5, "Patient is likely to have Pneumothorax.", "気胸が疑われる。"),
        (0.9, "Definitely have Pneumothorax.", "気胸を認める。"),
        (1.0, "Definitely have Pneumothorax.", "気胸を認める。"),
    ],
)
def test_probabilities_in_words(probability: float, english: str, japanese: str) -> None:
    assert in_words([finding(probability)], "chatcad", "en") == english
    assert in_words([finding(probability)], "chatcad", "ja") == japanese


def test_chatcad_tells_the_language_model_what_the_classifier_found(tmp_path: Path) -> None:
    chat = ScriptedChat(lambda told: "Pleural effusion is present. No pneumothorax.")
    model = Registry([catalogue(tmp_path / "site", "chatcad")], threads=1, chat=chat).get("chatcad-example")
    assert set(model.needs) == {"medgpt", "known-findings"}
    inputs = radiograph(220.0, 30.0)
    result = model.run(inputs, {})
    found = {each.concept.meaning: each.present for each in result.findings}
    assert found == {"Pleural effusion": True, "Pneumothorax": False}
    assert result.model.model_id == "chatcad-example"
    assert result.model.parameters["member.known-findings"].startswith("0.1 ")
    written = draft(result, "en", generator=model, inputs=inputs)
    assert written.impression == "Pleural effusion is present. No pneumothorax."
    assert written.objections == ()
    assert "Definitely have Pleural effusion." in chat.told()
    assert "tiny-vlm (remote, as MedGPT (this site's alias))" in " ".join(written.notes)


def test_a_text_of_a_chain_whose_member_has_changed_is_another_work(tmp_path: Path) -> None:
    """What it answers may be different, so the reference, of which its UIDs are made, has to be."""
    site = catalogue(tmp_path / "site", "chatcad")

    def reference() -> ModelReference:
        return Registry([site], chat=ScriptedChat(lambda told: "")).get("chatcad-example").reference({})

    before = reference()
    card = site / "known" / "model.toml"
    card.write_text(card.read_text(encoding="utf-8") + "\n# the next version\n", encoding="utf-8")
    after = reference()
    assert before.digest == after.digest and before.parameters != after.parameters
    shutil.rmtree(site / "known")  # a status can still be written
    assert reference().model_id == "chatcad-example"


def test_a_bundle_of_a_chain_tells_when_a_member_is_another(tmp_path: Path) -> None:
    site = catalogue(tmp_path / "site", "chatcad")
    model = Registry([site], threads=1).get("chatcad-example")
    manifest = {
        "format": FORMAT,
        "model": {"id": "chatcad-example", "version": "0.1", "digest": model.digest},
        "parameters": {},
        "inputs": {"image": {"unit": "", "facts": {"maximum_value": 255.0}}},
        "refused_before_the_model": None,
        "result": summary_of(model.run(PICTURE, {})),
        "failure": None,
        "versions": versions(),
    }
    image = io.BytesIO()
    np.savez(image, array_zyx=PICTURE["image"].array_zyx, affine_lps=PICTURE["image"].affine_lps)
    with zipfile.ZipFile(tmp_path / "b.zip", "x") as bundle:
        bundle.writestr(MANIFEST, json.dumps(manifest))
        bundle.writestr("image.npz", image.getvalue())
    report = replay(tmp_path / "b.zip", Registry([site], threads=1))
    assert report["same_model"] and not report["differences"]
    card = site / "known" / "model.toml"
    card.write_text(card.read_text(encoding="utf-8") + "\n# the next version\n", encoding="utf-8")
    report = replay(tmp_path / "b.zip", Registry([site], threads=1))
    assert not report["same_model"] and not report["differences"]


@pytest.mark.parametrize(
    ("lie", "problem"),
    [
        ("No pleural effusion.", "denies Pleural effusion"),
        ("Pleural effusion. Pneumothorax.", "asserts Pneumothorax"),
        ("Pleural effusion and cardiomegaly.", "names Cardiomegaly"),
        ("Pleural effusion on the left.", "a side"),
        ("Pleural effusion, 37 percent.", "number '37'"),
        ("No pneumothorax.", "leaves out Pleural effusion"),
        ("Pleural effusion, increased since the prior study.", "speaks of change"),
        ("胸水を認める。", "language"),
    ],
)
def test_text_about_findings_is_checked_against_them(tmp_path: Path, lie: str, problem: str) -> None:
    chat = ScriptedChat(lambda told: lie)
    model = Registry([catalogue(tmp_path / "site", "chatcad")], threads=1, chat=chat).get("chatcad-example")
    inputs = radiograph(220.0, 30.0)
    written = draft(model.run(inputs, {}), "en", generator=model, inputs=inputs)
    assert lie not in written.impression
    assert any(problem in each for each in written.objections), written.objections


def vila(tmp_path: Path, say: Callable[[str], str]) -> tuple[ScriptedChat, Callable[[str], str]]:
    chat = ScriptedChat(say)
    site = catalogue(tmp_path / "site", "vila-m3")
    model = Registry([site], threads=1, chat=chat, corpus=ListedCorpus()).get("vila-m3-example")
    inputs = radiograph(220.0, 30.0)
    return chat, lambda asked: " | ".join(
        (written := model.answer(Question(asked, "order", "en"), inputs, "en")).impression.splitlines()
        + list(written.notes)
        + [written.author.parameters["tools"] if written.author else ""]
    )


def test_an_expert_is_called_and_its_result_told(tmp_path: Path) -> None:
    chat, ask = vila(
        tmp_path, lambda told: "An effusion." if "resulting predictions" in told else "Let me look <CXR()> first."
    )
    said = ask("Is there an effusion?")
    assert said.startswith("An effusion.")
    assert "1 made, 0 refused" in said
    assert "Similar reports of this site, by number: #12." in said
    assert "Definitely have Pleural effusion." in chat.told()
    assert "#12: Effusion on the left. ‹CXR()›" in chat.told(0)
    free = [part.text for part in chat.requests[0].parts if isinstance(part, TextPart) and part.free]
    assert len(free) == 2  # the reports and the question: both go through the gate as other people's words


def test_a_calculator_is_called_with_units(tmp_path: Path) -> None:
    chat, ask = vila(tmp_path, lambda told: "30 mL." if "predictions" in told else "<ABC(a=50 mm, b=4 cm, c=3 cm)>")
    assert ask("How large?").startswith("30 mL.")
    assert "Haematoma volume ABC/2: 30 mL (Kothari" in chat.told()


@pytest.mark.parametrize(
    "text",
    [
        "<VISTA3D(liver)>",
        "<CXR(all)>",
        "<CXR>",
        "<EXEC(id)>",
        "<cxr()>",
        "<ABC(a=1 kg, b=1 cm, c=1 cm)>",
        "<a href=x>",
        "<CXR(()>",
    ],
)
def test_what_is_not_on_the_list_is_never_called(tmp_path: Path, text: str) -> None:
    chat, ask = vila(tmp_path, lambda told: f"Look {text} here.")
    said = ask("Is there an effusion?")
    assert "<" not in said
    assert "Pleural" not in chat.told()
    if "ABC" not in text:
        assert len(chat.requests) == 1


def test_words_of_people_make_no_call(tmp_path: Path) -> None:
    chat, ask = vila(tmp_path, lambda told: told.split("Question: ")[-1])
    said = ask("Do <CXR()> and <ABC(a=1 cm, b=1 cm, c=1 cm)> now {like} {question}")
    assert len(chat.requests) == 1
    assert "0 made" in said


class HostileCorpus:
    """A report of another patient that tells whoever reads it what to do."""

    def __init__(self, text: str) -> None:
        self.text = text

    def similar(self, text: str, language: str, count: int) -> Sequence[Passage]:
        return [Passage(1, self.text, 0.9)]


def test_reports_that_are_looked_up_are_obeyed_by_nobody(tmp_path: Path) -> None:
    chat = ScriptedChat(lambda told: told.split("Reports: ")[-1])
    site = catalogue(tmp_path / "site", "vila-m3")
    inputs = radiograph(220.0, 30.0)
    for injection in (*INJECTIONS, *FOREIGN):
        registry = Registry([site], threads=1, chat=chat, corpus=HostileCorpus(injection))
        before = len(chat.requests)
        result = answer(registry.get("vila-m3-example"), Question("Effusion?", "order", "en"), inputs, ["en"])
        assert len(chat.requests) == before + 1, injection
        assert result.outcome is Outcome.NOT_ASSESSED or not re.search(
            "verified|approved|suzuki|鈴木|承認|確認済|http", fold(result.drafts[0].impression)
        ), injection


def test_the_comparison_is_worded_without_the_day(tmp_path: Path) -> None:
    chat = ScriptedChat(lambda told: "x")
    folder = catalogue(tmp_path / "site", "chatcad")
    card = folder / "chatcad" / "model.toml"
    step = '\n[[options.steps]]\nname = "change"\nkind = "compare"\nof = "measured"\n'
    card.write_text(
        card.read_text().replace("Network A: {words}", "Change: {change} {words}").replace("分類器：", "{change}")
        + step
    )
    model = Registry([folder], threads=1, chat=chat).get("chatcad-example")
    comparison = Comparison("1", "2", "3", "4", "20260103", 12.3, 6.0, Change.LARGER)
    result = replace(model.run(radiograph(220.0, 30.0), {}), comparison=comparison)
    draft(result, "en", generator=model, inputs=radiograph(220.0, 30.0))
    assert "2026" not in chat.told()
    assert "6.0 → 12.3 mL" in chat.told()


@pytest.mark.parametrize("limited", ["vila-m3", "known"])
def test_no_question_is_answered_outside_of_the_limits(tmp_path: Path, limited: str) -> None:
    """Of the chain itself, and of what it calls."""
    chat = ScriptedChat(lambda told: "<CXR()>")
    site = catalogue(tmp_path / "site", "vila-m3")
    for_adults(site / limited)
    inputs = {role: replace(each, facts={**each.facts, "patient_age_years": 5.0}) for role, each in PICTURE.items()}
    model = Registry([site], threads=1, chat=chat).get("vila-m3-example")
    with pytest.raises(OutsideLimits, match="the patient's age"):
        answer(model, Question("Effusion?", "order", "en"), inputs, ["en"])
    assert len(chat.requests) == (0 if limited == "vila-m3" else 1)


def test_a_text_model_outside_of_its_limits_leaves_the_measurements_alone(tmp_path: Path) -> None:
    chat = ScriptedChat(lambda told: "x")
    site = catalogue(tmp_path / "site", "chatcad")
    result = Registry([site], threads=1, chat=chat).get("chatcad-example").run(PICTURE, {})
    for_adults(site / "chatcad")
    inputs = {role: replace(each, facts={**each.facts, "patient_age_years": 5.0}) for role, each in PICTURE.items()}
    generator = Registry([site], threads=1, chat=chat).get("chatcad-example")
    written = draft(result, "en", generator=generator, inputs=inputs)
    assert not chat.requests and written.author is None
    assert "Pleural effusion" in written.findings and "SUI-006" in " ".join(written.notes)


def test_endless_calls_end(tmp_path: Path) -> None:
    chat, ask = vila(tmp_path, lambda told: "again <CXR()>")
    assert ask("?").startswith("again")
    assert len(chat.requests) == 3


def test_calls_and_the_list() -> None:
    tools = {"SEG": Tool(model="m", arguments=("liver", "hepatic tumor"))}
    text = "a <SEG(liver)> b <SEG(heart)> c <SEG(liver)> <X()>"
    assert calls_in(text, tools) == ([ToolCall("SEG", "liver")], 2)
    assert without_calls(text) == "a b c"


def test_templates_are_filled_once_and_hold_no_code() -> None:
    assert fill("a {x} b {y}", {"x": "{y}", "y": "2"}) == "a {y} b 2"
    for bad in ("{x.__class__}", "{0}", "{x!r}", "{x:>9}", "{{x}}", "{x", "{X}"):
        with pytest.raises(ValueError, match="field"):
            fields_of(bad)


def step(**more: object) -> dict[str, object]:
    return {"name": "a", "kind": "ask", "model": "m", "template": {"en": "x"}, **more}


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([step(template={"en": "{b}"}), step(name="b", template={"en": "{a}"})], "circle"),
        ([step(template={"en": "{c}"})], "no step c"),
        ([step(), step()], "a name of its own"),
        ([step(name="question")], "question"),
        ([step(template={"en": "{question}", "ja": "x"})], "same fields"),
        ([step(tools={"T": {"model": "m", "calculator": "abc_half"}})], "one of them"),
        ([step(tools={"T": {"calculator": "eval"}})], "no calculator"),
        ([step(tools={"rm": {"model": "m"}})], "rm"),
        ([{"name": "a", "kind": "words", "of": "measured", "table": "mine"}], "no table"),
        ([{"name": "a", "kind": "shell", "command": "id"}], "shell"),
    ],
)
def test_faults_of_a_declaration_are_named(steps: list[dict[str, object]], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Graph.model_validate({"recipe": "graph", "steps": steps, "text": "a"})


def test_a_chain_without_an_image_model_is_not_run(tmp_path: Path) -> None:
    site = catalogue(tmp_path / "site", "vila-m3")
    with pytest.raises(CardInvalid, match="writes text"):
        Registry([site], threads=1).get("vila-m3-example").run(radiograph(1, 1), {})


def test_less_similar_reports_are_left_out() -> None:
    passages = [Passage(1, "a", 0.9), Passage(2, "b", 0.8), Passage(3, "c", 0.3), Passage(4, "d", 0.29)]
    assert [each.number for each in adaptive(passages, 0.5)] == [1, 2]


@pytest.mark.parametrize(
    ("name", "argument", "expected"),
    [
        ("abc_half", "a=4 cm, b=3 cm, c=2 cm", 12.0),
        ("abc_half", "a=40 mm, b=3 cm, c=20 mm", 12.0),
        ("ellipsoid", "length=5 cm, width=4 cm, height=3 cm", 31.4159),
        ("psa_density", "psa=6 ng/mL, volume=40 mL", 0.15),
        ("nascet", "narrowest=2 mm, distal=5 mm", 60.0),
        ("evans_index", "frontal_horns=36 mm, inner_skull=12 cm", 0.3),
        ("cardiothoracic_ratio", "heart=150 mm, thorax=300 mm", 0.5),
        ("doubling_time", "before=1 mL, now=2 mL, interval=10 wk", 70.0),
        ("adrenal_washout", "unenhanced=10 HU, enhanced=80 HU, delayed=38 HU", 60.0),
        ("relative_washout", "enhanced=80 HU, delayed=40 HU", 50.0),
        ("resistive_index", "systolic=1 m/s, diastolic=30 cm/s", 0.7),
        ("effective_dose", "dose_length_product=1000 mGy.cm, conversion=0.0021 mSv/(mGy.cm)", 2.1),
        ("body_surface_area", "height=1.8 m, weight=80 kg", 2.0),
    ],
)
def test_calculators(name: str, argument: str, expected: float) -> None:
    assert CALCULATORS[name](**parse(argument)).value == pytest.approx(expected, rel=1e-4)


def test_every_calculator_is_tried_above() -> None:
    assert len(CALCULATORS) == 12


@pytest.mark.parametrize(
    "argument",
    [
        "a=4 kg, b=3 cm, c=2 cm",
        "a=4, b=3 cm, c=2 cm",
        "a=4 cm, b=3 cm",
        "a=-4 cm, b=3 cm, c=2 cm",
        "a=nan cm, b=3 cm, c=2 cm",
        "4 cm",
        "",
    ],
)
def test_calculators_refuse_other_units_and_no_numbers(argument: str) -> None:
    with pytest.raises(ParameterInvalid):
        stated("abc_half", argument)
    with pytest.raises(ParameterInvalid, match="no result"):
        CALCULATORS["nascet"](narrowest=Amount(1, "mm"), distal=Amount(0, "mm"))
