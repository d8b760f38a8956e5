"""Runs a chain that a card declares: the steps in order, each once, only those that the wanted end needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from models import filling, history
from models.chains.calculators import stated
from models.chains.declaration import (
    MEASURED,
    AskStep,
    CompareStep,
    Graph,
    RetrieveStep,
    RunStep,
    Step,
    Tool,
    WordsStep,
    WriteStep,
)
from models.chains.passages import adaptive
from models.chains.probability_words import in_words
from models.chains.tool_calls import ToolCall, calls_in, without_calls
from models.chat import TextPart
from models.composer import compose, measured_text
from models.errors import CardInvalid, InferenceFailed, ParameterInvalid
from models.folding import fold
from models.output_guard import echoed
from models.questions import Question
from models.report import answer_objections
from models.results import Draft, ModelReference, StudyResult
from models.untrusted import as_data
from models.volume import Volume

if TYPE_CHECKING:
    from models.model import Model

_RESULTS = {
    "en": "The resulting predictions are: {results}\nUse this result to respond to this prompt:\n",
    "ja": "得られた結果は次のとおりです：{results}\nこの結果を用いて次に答えてください：\n",
}
_SOURCES = {
    "en": "Similar reports of this site, by number: {numbers}.",
    "ja": "参照した当施設の類似レポートの番号：{numbers}。",
}


_REPEATED = {
    "en": "Whole sentences of the text are those of report {numbers}, which is about another examination.",
    "ja": "文章の一部は別の検査のレポート{numbers}の文と一致する。",
}


@dataclass
class _State:
    """What the steps have given so far."""

    inputs: Mapping[str, Volume]
    language: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    question: Question | None = None
    results: dict[str, StudyResult] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    free: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)
    authors: list[ModelReference] = field(default_factory=list)
    sources: dict[int, str] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=lambda: {"made": 0, "refused": 0})
    called: list[StudyResult] = field(default_factory=list)
    looked_at: tuple[int, ...] = ()
    notes: list[str] = field(default_factory=list)


class GraphChain:
    """A chain of recipe ``graph``.

    Raises
    ------
    CardInvalid
        The card's ``options`` declare none.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self.graph = model.card.options_of(Graph)

    @property
    def needs(self) -> tuple[str, ...]:
        """Ids of the models it is made of."""
        return tuple(dict.fromkeys(name for step in self.graph.steps for name in step.models))

    @property
    def languages(self) -> frozenset[str]:
        """Languages in which every prompt that its text needs is worded, and every model that is asked writes."""
        found = frozenset(("en", "ja"))
        for step in self.graph.needed_for(self.graph.text) if self.graph.text is not None else ():
            if isinstance(step, AskStep):
                writes = self._model.member(step.model).languages
                found &= frozenset(map(str, step.template))
                found &= found if writes is None else writes
        return found

    def run(self, inputs: Mapping[str, Volume], parameters: Mapping[str, str]) -> StudyResult:
        """The typed result of the chain's ``result`` step; see :meth:`models.model.Model.run`."""
        if self.graph.result is None:
            raise CardInvalid(f"{self._model.card.id} writes text; it cannot be run on images alone")
        state = self._through(self.graph.result, _State(inputs, "en", parameters))
        found = state.results[self.graph.result]
        own = self._model.reference(parameters)
        return replace(found, title=self._model.card.title, model=replace(own, provider=found.model.provider))

    def write(self, result: StudyResult, inputs: Mapping[str, Volume], language: str) -> Draft:
        """The chain's text about a measured result; nothing is checked here."""
        return self._draft(_State(inputs, language, results={MEASURED: result}))

    def answer(self, question: Question, inputs: Mapping[str, Volume], language: str) -> Draft:
        """The chain's answer to a question; what was measured for it stands in its findings, and is held against it."""
        state = _State(inputs, language, question=question)
        answered = self._draft(state)
        measured = [each for each in (*state.results.values(), *state.called) if not each.drafts]
        told = dict.fromkeys(compose(each, language).impression for each in measured)
        return replace(answered, findings="\n".join(told), objections=answer_objections(answered, measured))

    def _draft(self, state: _State) -> Draft:
        if self.graph.text is None:
            raise CardInvalid(f"{self._model.card.id} writes no text")
        self._through(self.graph.text, state)
        own = self._model.reference({"tools": f"{state.calls['made']} made, {state.calls['refused']} refused"})
        written = " and ".join(dict.fromkeys(each.name for each in state.authors))
        author = replace(own, name=f"{own.name} ({written})" if written else own.name)
        notes = list(dict.fromkeys(state.notes))
        if state.sources:
            notes.append(filling.fill(_SOURCES[state.language], {"numbers": _numbers(state.sources)}))
        said = fold(state.texts[self.graph.text])
        if repeated := [number for number, text in state.sources.items() if echoed(said, fold(text))]:
            notes.append(filling.fill(_REPEATED[state.language], {"numbers": _numbers(repeated)}))
        return Draft(state.language, "", state.texts[self.graph.text], author, tuple(notes), looked_at=state.looked_at)

    def _through(self, target: str, state: _State) -> _State:
        for step in self.graph.needed_for(target):
            self._do(step, state)
        return state

    def _do(self, step: Step, state: _State) -> None:
        match step:
            case RunStep():
                state.results[step.name] = self._model.member(step.model).run(state.inputs, state.parameters)
                state.texts[step.name] = self._text_of(step, state)
            case WordsStep():
                state.texts[step.name] = in_words(self._result(step.of, state).findings, step.table, state.language)
            case WriteStep():
                self._take(
                    step.name,
                    self._model.member(step.model).write(self._result(step.of, state), state.inputs, state.language),
                    state,
                )
            case CompareStep():
                comparison = self._result(step.of, state).comparison
                # The day of the earlier study says nothing to a model, and would stop a call of a remote one.
                state.texts[step.name] = (
                    ""
                    if comparison is None
                    else history.compared_impression(replace(comparison, prior_date=""), state.language)
                )
            case RetrieveStep():
                self._retrieve(step, state)
            case AskStep():
                self._ask(step, state)

    def _text_of(self, step: RunStep, state: _State) -> str:
        """What a result says: the text of a model that reads images by itself, else its measurements in sentences."""
        result = state.results[step.name]
        if result.drafts:
            # No measurement stands behind it, so it goes through the gate like words of people.
            state.free.add(step.name)
            return self._read_out(result, state)
        return measured_text(result, state.language)

    def _read_out(self, result: StudyResult, state: _State) -> str:
        """What a model that reads images by itself has written, as data; its notes (a text was cut off) go with the chain's."""
        read = next((each for each in result.drafts if each.language == state.language), result.drafts[0])
        state.notes += read.notes
        return as_data(f"{read.findings}\n{read.impression}".strip())

    def _result(self, name: str, state: _State) -> StudyResult:
        if name not in state.results:
            raise InferenceFailed(f"{self._model.card.id}: there is no result {name} here")
        return state.results[name]

    def _take(self, name: str, draft: Draft, state: _State) -> None:
        if not draft.impression.strip():
            raise InferenceFailed(f"{self._model.card.id}: step {name} wrote nothing but calls of tools")
        state.texts[name] = draft.impression
        # A model repeats what it was told: a name in an order comes back in its text, and so does an instruction.
        state.free.add(name)
        state.written.add(name)
        state.looked_at = state.looked_at or draft.looked_at
        state.notes += draft.notes
        if draft.author is not None:
            state.authors.append(draft.author)

    def _retrieve(self, step: RetrieveStep, state: _State) -> None:
        corpus = self._model.corpus
        like = state.question.text if step.like == "question" and state.question else state.texts.get(step.like, "")
        found = corpus.similar(like, state.language, step.count) if corpus is not None else ()
        kept = adaptive(found, step.smallest_ratio)
        state.sources |= {passage.number: passage.text for passage in kept}
        state.texts[step.name] = "\n".join(f"#{passage.number}: {as_data(passage.text)}" for passage in kept)
        # Written by people about others: it goes through the gate like an order's words.
        state.free.add(step.name)

    def _ask(self, step: AskStep, state: _State) -> None:
        templates = {str(language): text for language, text in step.template.items()}
        if state.language not in templates:
            raise InferenceFailed(f"{self._model.card.id}: step {step.name} has no template in {state.language}")
        prompt = self._parts(templates[state.language], state)
        model = self._model.member(step.model)
        draft = model.ask(prompt, state.inputs, state.language)
        for _ in range(step.rounds if step.tools else 0):
            calls, refused = calls_in(draft.impression, step.tools)
            state.calls["refused"] += refused
            if not calls:
                break
            state.calls["made"] += len(calls)
            told: list[TextPart] = []
            for is_field, words in filling.pieces(_RESULTS[state.language]):
                results = [self._called(call, step.tools[call.name], state) for call in calls] if is_field else []
                told += results or [TextPart(words)]
            draft = model.ask([*told, *prompt], state.inputs, state.language)
        else:
            state.calls["refused"] += calls_in(draft.impression, {})[1]
        self._take(step.name, replace(draft, impression=without_calls(draft.impression)), state)

    def _parts(self, template: str, state: _State) -> list[TextPart]:
        """The template filled, field by field: what people wrote stays marked as theirs."""
        parts = []
        for is_field, text in filling.pieces(template):
            if not is_field:
                parts.append(TextPart(text))
            elif text == "question":
                if state.question is None:
                    raise InferenceFailed(f"{self._model.card.id}: the template asks for a question, and there is none")
                parts.append(TextPart(as_data(state.question.text), free=True))
            elif text == MEASURED:
                parts.append(TextPart(measured_text(self._result(MEASURED, state), state.language)))
            else:
                said = state.texts[text]
                parts.append(TextPart(as_data(said) if text in state.written else said, free=text in state.free))
        return parts

    def _called(self, call: ToolCall, tool: Tool, state: _State) -> TextPart:
        if tool.calculator is not None:
            try:
                return TextPart(f"{stated(tool.calculator, call.argument)} ")
            except ParameterInvalid as error:
                return TextPart(f"{call.name}: {error.message}. ")
        assert tool.model is not None
        result = self._model.member(tool.model).run(state.inputs, {})
        state.called.append(result)
        if result.drafts:
            return TextPart(f"{self._read_out(result, state)} ", free=True)
        if result.findings:
            return TextPart(f"{in_words(result.findings, tool.table, state.language)} ")
        return TextPart(f"{compose(result, state.language).impression} ")


def _numbers(sources: Iterable[int]) -> str:
    return ", ".join(f"#{number}" for number in sources)
