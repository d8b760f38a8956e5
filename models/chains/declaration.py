"""What a card may declare: a graph of named steps without cycles, each of a kind this release knows."""

from __future__ import annotations

import graphlib
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from models import filling
from models.chains.calculators import CALCULATORS
from models.chains.probability_words import TABLES

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
ToolName = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,31}$")]
Language = Literal["en", "ja"]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Step(_Table):
    name: Name

    @property
    def takes(self) -> frozenset[str]:
        """Names of the steps it needs."""
        return frozenset()

    @property
    def models(self) -> tuple[str, ...]:
        """Ids of the models it runs."""
        return ()


class RunStep(_Step):
    """An image model; gives a typed result."""

    kind: Literal["run"]
    model: str

    @property
    def models(self) -> tuple[str, ...]:
        return (self.model,)


class WordsStep(_Step):
    """Findings of a result in words, by a table of probabilities."""

    kind: Literal["words"]
    of: Name
    table: str

    @field_validator("table")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in TABLES:
            raise ValueError(f"no table named {value}; there are {', '.join(TABLES)}")
        return value

    @property
    def takes(self) -> frozenset[str]:
        return frozenset({self.of})


class WriteStep(_Step):
    """A report model writes about a result; gives text."""

    kind: Literal["write"]
    model: str
    of: Name

    @property
    def takes(self) -> frozenset[str]:
        return frozenset({self.of})

    @property
    def models(self) -> tuple[str, ...]:
        return (self.model,)


class CompareStep(_Step):
    """How the result compares with the earlier study, in the composer's words; empty where nothing was compared."""

    kind: Literal["compare"]
    of: Name

    @property
    def takes(self) -> frozenset[str]:
        return frozenset({self.of})


class RetrieveStep(_Step):
    """Reports of this site that are like a text, each with its number as source."""

    kind: Literal["retrieve"]
    like: Name
    count: int = Field(default=3, ge=1, le=10)
    smallest_ratio: float = Field(default=0.5, gt=0, le=1)

    @property
    def takes(self) -> frozenset[str]:
        return frozenset({self.like}) - {"question"}


class Tool(_Table):
    """What a language model may call: another model, or a calculator. ``arguments`` are all there are."""

    model: str | None = None
    calculator: str | None = None
    arguments: tuple[str, ...] = ()
    table: str = "chatcad"

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.model is None) == (self.calculator is None):
            raise ValueError("a tool is a model or a calculator, and one of them")
        if self.calculator is not None and self.calculator not in CALCULATORS:
            raise ValueError(f"no calculator named {self.calculator}; there are {', '.join(CALCULATORS)}")
        if self.table not in TABLES:
            raise ValueError(f"no table named {self.table}")
        return self


class AskStep(_Step):
    """A prompt put to a model; gives text.

    Attributes
    ----------
    template : dict
        By language; fields are names of steps, and ``question`` where a question is answered.
    tools : dict
        What the model may call, by name, at most ``rounds`` times.
    """

    kind: Literal["ask"]
    model: str
    template: dict[Language, str]
    tools: dict[ToolName, Tool] = {}
    rounds: int = Field(default=2, ge=0, le=5)

    @field_validator("template")
    @classmethod
    def _fields(cls, value: dict[Language, str]) -> dict[Language, str]:
        if len({filling.fields_of(each) for each in value.values()}) > 1:
            raise ValueError("the templates of all languages have the same fields")
        return value

    @property
    def takes(self) -> frozenset[str]:
        return frozenset().union(*(filling.fields_of(each) for each in self.template.values())) - {"question"}

    @property
    def models(self) -> tuple[str, ...]:
        return (self.model, *(tool.model for tool in self.tools.values() if tool.model is not None))


Step = Annotated[RunStep | WordsStep | WriteStep | CompareStep | RetrieveStep | AskStep, Field(discriminator="kind")]

MEASURED = "measured"
"""Name of the result that a chain is given where it writes about one."""


class Graph(_Table):
    """The card's ``options`` of a chain.

    Attributes
    ----------
    result : str or None
        The step whose typed result is the chain's, where it is run on images.
    text : str or None
        The step whose text is the chain's, where it writes or answers.
    """

    recipe: Literal["graph"]
    steps: tuple[Step, ...] = Field(min_length=1, max_length=32)
    result: Name | None = None
    text: Name | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        kinds = {step.name: step.kind for step in self.steps}
        if len(kinds) != len(self.steps) or MEASURED in kinds or "question" in kinds:
            raise ValueError("steps: each has a name of its own, and none is called measured or question")
        for step in self.steps:
            if unknown := step.takes - set(kinds) - {MEASURED}:
                raise ValueError(f"steps.{step.name}: there is no step {sorted(unknown)[0]}")
            if isinstance(step, WordsStep | WriteStep | CompareStep) and kinds.get(step.of, "run") != "run":
                raise ValueError(f"steps.{step.name}.of: {step.of} gives no typed result")
            if isinstance(step, RetrieveStep) and kinds.get(step.like) == "run":
                raise ValueError(f"steps.{step.name}.like: {step.like} gives no text")
        try:
            self.order()
        except graphlib.CycleError as error:
            raise ValueError(f"steps: {' → '.join(error.args[1])} run in a circle") from error
        if self.result is not None and kinds.get(self.result) != "run":
            raise ValueError(f"result: {self.result} is no step that runs an image model")
        if self.text is not None and kinds.get(self.text) not in ("ask", "write", "words"):
            raise ValueError(f"text: {self.text} is no step that gives text")
        if self.result is None and self.text is None:
            raise ValueError("result, text: name one of them at least")
        return self

    def order(self) -> tuple[Step, ...]:
        """Steps so that each comes after what it takes; of equals the first declared first."""
        by_name = {step.name: step for step in self.steps}
        sorter = graphlib.TopologicalSorter({step.name: sorted(step.takes - {MEASURED}) for step in self.steps})
        return tuple(by_name[name] for name in sorter.static_order())

    def needed_for(self, target: str) -> tuple[Step, ...]:
        """Steps that a step depends on, and itself, in order."""
        by_name = {step.name: step for step in self.steps}
        wanted, open_ = set(), [target]
        while open_:
            name = open_.pop()
            if name in by_name and name not in wanted:
                wanted.add(name)
                open_ += by_name[name].takes
        return tuple(step for step in self.order() if step.name in wanted)
