"""Radiographs, or CT volumes, to findings: one pass, a probability for each condition, an operating point that decides.

A model of family ``feed_forward`` whose card says ``output = "findings"`` runs here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.code_list import CodeList, read_codes
from models.errors import CardInvalid, InferenceFailed
from models.projection_input import ProjectionInput, network_image
from models.results import CodedTerm, Finding, Outcome, StudyResult
from models.slice_input import VolumeInput, volume_image
from models.volume import Volume

if TYPE_CHECKING:
    from models.model import Model


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FindingOptions(_Table):
    """One output of the network.

    Attributes
    ----------
    output : int
        Which, from 0. Outputs that no finding names are not looked at.
    concept : CodedTerm
    operating_point : float
        Probability from which the finding counts as present, of the network's own scale.
    """

    output: int = Field(ge=0)
    concept: CodedTerm
    operating_point: float = Field(gt=0, lt=1)


class ClassifierOptions(_Table):
    """The card's ``options``.

    ``image`` (a radiograph or a photograph) or ``volume`` says what the graph takes, ``findings`` or ``code_list`` what its
    outputs mean. ``activation``: ``sigmoid``, each output on its own; ``softmax``, one of all outputs.
    ``calibration``: ``operating_point_at_half`` stretches each probability so that its operating point becomes 0.5, as
    torchxrayvision does; ``none`` leaves it.
    """

    output: Literal["findings"]
    image: ProjectionInput | None = None
    volume: VolumeInput | None = None
    activation: Literal["sigmoid", "softmax", "none"] = "sigmoid"
    calibration: Literal["operating_point_at_half", "none"] = "none"
    findings: tuple[FindingOptions, ...] = ()
    code_list: CodeList | None = None

    @model_validator(mode="after")
    def _distinct(self) -> ClassifierOptions:
        if (self.image is None) == (self.volume is None):
            raise ValueError("one of image and volume says what the graph takes")
        if bool(self.findings) == (self.code_list is not None):
            raise ValueError("one of findings and code_list says what the outputs mean")
        outputs = [each.output for each in self.findings]
        if len(set(outputs)) != len(outputs):
            raise ValueError("findings: two findings read the same output")
        return self


class Classifier:
    """Runs one classifying model.

    Raises
    ------
    CardInvalid
        The card's ``options`` do not describe one.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        card = model.card
        self.options = card.options_of(ClassifierOptions)
        kinds = ("projection", "photograph") if self.options.image is not None else ("image",)
        if len(card.inputs) != 1 or card.inputs[0].kind not in kinds:
            raise CardInvalid(f"{card.id}: inputs: a model that gives findings takes one {' or '.join(kinds)}")
        self._wanted = self.options.findings or self._listed()

    def _listed(self) -> tuple[FindingOptions, ...]:
        """A finding for each line of the card's list."""
        wanted = self.options.code_list
        assert wanted is not None
        if wanted.file not in self._model.card.files:
            raise CardInvalid(
                f"{self._model.card.id}: options.code_list.file: no pinned file of the card is {wanted.file}"
            )
        terms = read_codes(self._model.path(wanted.file), wanted.scheme)
        return tuple(
            FindingOptions(output=n, concept=term, operating_point=wanted.operating_point)
            for n, term in enumerate(terms)
        )

    def run(self, inputs: Mapping[str, Volume], parameters: Mapping[str, str]) -> StudyResult:
        """Result of one image; see :meth:`models.model.Model.run`."""
        card, role = self._model.card, self._model.card.inputs[0].role
        if role not in inputs:
            raise InferenceFailed(f"{card.id}: the input {role} is missing")
        self._model.thresholds(parameters)
        findings = self._findings(self._outputs(inputs[role]))
        evidence: dict[str, Any] = {}
        if self.options.code_list is not None:
            evidence["conditions"] = {"asked": len(findings), "present": sum(each.present for each in findings)}
            ranked = sorted(findings, key=lambda each: each.probability, reverse=True)
            findings = tuple(ranked[: self.options.code_list.at_most])
        evidence["probabilities"] = {each.concept.meaning: round(each.probability, 4) for each in findings}
        return StudyResult(
            outcome=Outcome.FOUND if any(each.present for each in findings) else Outcome.NOTHING_FOUND,
            title=card.title,
            finding=card.finding,
            site=card.site,
            model=self._model.reference(parameters),
            findings=findings,
            limitations=card.limitations,
            evidence=evidence,
        )

    def _outputs(self, volume: Volume) -> list[float]:
        session = self._model.session("main")
        made = session.run({session.inputs[0]: self._input(volume)})[session.outputs[0]]
        needed = 1 + max(each.output for each in self._wanted)
        # A list names every output, or it is another network's.
        wrong = made.shape[-1] != needed if self.options.code_list is not None else made.shape[-1] < needed
        if made.ndim != 2 or made.shape[0] != 1 or wrong:
            raise InferenceFailed(
                f"{self._model.card.id}: an output of shape {made.shape}; the card reads {needed} values"
            )
        values = made[0].astype(np.float64)
        if self.options.activation == "sigmoid":
            values = 1.0 / (1.0 + np.exp(-values))
        elif self.options.activation == "softmax":
            raised = np.exp(values - values.max())
            values = raised / raised.sum()
        if values.min() < 0.0 or values.max() > 1.0:
            raise InferenceFailed(f"{self._model.card.id}: a probability lies outside 0 to 1")
        return [float(value) for value in values]

    def _input(self, volume: Volume) -> npt.NDArray[np.float32]:
        if self.options.volume is not None:
            return volume_image(volume, self.options.volume)
        assert self.options.image is not None
        return network_image(volume, self.options.image)

    def _findings(self, outputs: list[float]) -> tuple[Finding, ...]:
        """Findings in the card's order."""
        made = []
        for each in self._wanted:
            value, point = outputs[each.output], each.operating_point
            present = value >= point
            if self.options.calibration == "operating_point_at_half":
                value = value / (2 * point) if value < point else 1.0 - (1.0 - value) / (2 * (1.0 - point))
                point = 0.5
            made.append(Finding(each.concept, value, point, present, self._model.card.site))
        return tuple(made)
