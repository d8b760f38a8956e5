"""Family ``external``: somebody else's program, with images in and typed results out.

This module says what is run and turns what came out into a typed result in the card's own terms. Who hands the images
over, shuts the program in, kills it at its deadline and reads its files stands behind :class:`models.programs.Programs`.
A program's own words, codes, UIDs and DICOM objects never get further than that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from models.dense.regions import labelled_regions
from models.errors import CardInvalid, InferenceFailed
from models.measurement import volume_quantity
from models.program_errors import NotIsolated, OutputUnusable
from models.programs import ProgramAnswer, ProgramRequest
from models.results import (
    CodedTerm,
    Finding,
    ModelReference,
    Outcome,
    Quantity,
    Segmentation,
    StudyResult,
    total_volume_ml,
)
from models.volume import Volume

if TYPE_CHECKING:
    from models.model import Model

PROVIDER = "external"
_IMAGE = r"^([a-z0-9][a-z0-9._/:-]*@)?sha256:[0-9a-f]{64}$"


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Measurement(_Table):
    """A number of the program's JSON file: its key (dots lead into tables), what it is, and what it may be."""

    key: str = Field(min_length=1)
    name: CodedTerm
    unit: CodedTerm
    minimum: float
    maximum: float


class Probability(_Table):
    """A probability of the program's JSON file, and from where on the condition counts as present."""

    key: str = Field(min_length=1)
    concept: CodedTerm
    operating_point: float = Field(gt=0, lt=1)


class Recipe(_Table):
    """The card's ``options``.

    Attributes
    ----------
    command : tuple of str
        Argument list; ``{model}`` is where the card's pinned files lie. May be empty for an image, whose own entry point
        then runs.
    image : str
        OCI image: ``sha256:…`` or ``name@sha256:…``. Empty: a process on this machine.
    layout : str
        ``"mercure"``: ``MERCURE_IN_DIR``, ``MERCURE_OUT_DIR``, ``task.json``; ``"map"``: ``HOLOSCAN_INPUT_PATH``,
        ``HOLOSCAN_OUTPUT_PATH`` as a MONAI application package has them.
    settings : dict
        Given to the program as ``process.settings`` of ``task.json``, with the card's thresholds.
    deidentified_input : bool
        Whether it gets copies without identity (PS3.15 E.2). These have no series descriptions, dates or private attributes.
    mask : str
        What it writes: ``"seg"``, ``"nifti"``, ``"none"``. Segment numbers or voxel values are those of the card's labels.
    no_mask : str
        What no file means: ``"refuse"``, or ``"nothing_found"`` for programs that then write none.
    smallest_ml : float
        Labels with less volume are left out.
    report : str
        JSON file that measurements and findings are read from.
    """

    command: tuple[str, ...] = ()
    image: str = Field(default="", pattern=rf"^$|{_IMAGE}")
    layout: Literal["mercure", "map"]
    settings: dict[str, Any] = {}
    deidentified_input: bool = True
    deadline_seconds: float = Field(default=300.0, gt=0, le=86400)
    maximum_memory_mb: int = Field(default=4096, ge=64, le=1_048_576)
    maximum_output_mb: int = Field(default=256, ge=1, le=65536)
    mask: Literal["seg", "nifti", "none"]
    no_mask: Literal["refuse", "nothing_found"] = "refuse"
    smallest_ml: float = Field(default=0.0, ge=0)
    report: str = Field(default="result.json", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    measurements: tuple[Measurement, ...] = ()
    findings: tuple[Probability, ...] = ()

    @field_validator("command")
    @classmethod
    def _words(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        if any("\0" in word for word in words):
            raise ValueError("a word holds a zero byte")
        return words

    @model_validator(mode="after")
    def _something(self) -> Recipe:
        if not self.image and not self.command:
            raise ValueError("a command or an image")
        if not self.image and not self.command[0].startswith(("/", "{model}/")):
            raise ValueError("command: the program is named by its whole path, or lies in {model}/")
        if self.mask == "none" and not self.measurements and not self.findings:
            raise ValueError("a mask, measurements or findings")
        return self


def build(model: Model) -> ExternalProgram:
    """Adapter of ``model``; raises :class:`CardInvalid` where its ``options`` are none."""
    return ExternalProgram(model)


class ExternalProgram:
    """Runs a program. See :func:`build`."""

    def __init__(self, model: Model) -> None:
        self._model = model
        card = model.card
        try:
            self.recipe = Recipe.model_validate(card.options)
        except ValidationError as error:
            faults = [f"options.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
            raise CardInvalid(f"{card.id}: {'; '.join(faults)}", keys=faults) from error
        if self.recipe.mask != "none" and not card.labels:
            raise CardInvalid(f"{card.id}: labels: one for each value of the mask")
        pinned = {pinned.file for pinned in card.files.values()}
        for word in self.recipe.command:
            if word.startswith("{model}/") and word.removeprefix("{model}/") not in pinned:
                raise CardInvalid(f"{card.id}: files: {word} is run, and its digest is not pinned")

    def run(self, inputs: Mapping[str, Volume], parameters: Mapping[str, str]) -> StudyResult:
        """Result of one study; see :meth:`models.model.Model.run`."""
        card = self._model.card
        for role in card.inputs:
            if role.required and role.role not in inputs:
                raise InferenceFailed(f"{card.id}: the input {role.role} is missing")
        if self._model.programs is None:
            raise NotIsolated(f"{card.id}: there is nobody here who runs programs")
        grid_role = card.inputs[0].role
        answer = self._model.programs.run(self._request(inputs, parameters))
        return self._result(answer, inputs[grid_role], grid_role, parameters)

    def _request(self, inputs: Mapping[str, Volume], parameters: Mapping[str, str]) -> ProgramRequest:
        card, recipe = self._model.card, self.recipe
        return ProgramRequest(
            model_id=card.id,
            digest=self._model.digest,
            image=recipe.image,
            command=recipe.command,
            files={pinned.file: self._model.path(name) for name, pinned in card.files.items()},
            layout=recipe.layout,
            settings={**recipe.settings, **self._model.thresholds(parameters)},
            roles=tuple(each.role for each in card.inputs if each.role in inputs),
            deidentified=recipe.deidentified_input,
            deadline_seconds=recipe.deadline_seconds,
            memory_mb=recipe.maximum_memory_mb,
            output_mb=recipe.maximum_output_mb,
            mask=recipe.mask,
            grid=inputs[card.inputs[0].role],
            report=recipe.report if recipe.measurements or recipe.findings else "",
        )

    def _result(self, answer: ProgramAnswer, grid: Volume, role: str, parameters: Mapping[str, str]) -> StudyResult:
        card, recipe = self._model.card, self.recipe
        labels = answer.labels_zyx
        if labels is None:
            if recipe.mask != "none" and recipe.no_mask == "refuse":
                raise OutputUnusable(f"{card.id}: the program wrote no mask")
            labels = np.zeros(grid.array_zyx.shape, np.uint8)
        if labels.shape != grid.array_zyx.shape or int(labels.max(initial=0)) > len(card.labels):
            raise OutputUnusable(
                f"{card.id}: the mask has values up to {int(labels.max(initial=0))}; the card names {len(card.labels)} labels"
            )
        regions, numbered = labelled_regions(labels, grid, card.labels, recipe.smallest_ml)
        findings = tuple(self._finding(each, answer.report) for each in recipe.findings)
        totals = tuple(self._measured(each, answer.report) for each in recipe.measurements)
        total = total_volume_ml(regions) if recipe.mask != "none" else None
        silent = recipe.mask == "none" and not recipe.findings  # only numbers: they are what was found
        found = bool(regions) or silent or any(each.present for each in findings)
        return StudyResult(
            outcome=Outcome.FOUND if found else Outcome.NOTHING_FOUND,
            title=card.title,
            finding=card.finding,
            site=card.site,
            model=self._reference(answer, parameters),
            segmentation=Segmentation(role, numbered, regions) if regions else None,
            total_ml=total,
            totals=(*(() if total is None else (volume_quantity(total),)), *totals),
            findings=findings,
            limitations=card.limitations,
            evidence={"program": dict(answer.facts) | dict(answer.provenance)},
        )

    def _reference(self, answer: ProgramAnswer, parameters: Mapping[str, str]) -> ModelReference:
        own = self._model.reference({**parameters, **answer.provenance})
        return replace(own, provider=PROVIDER)

    def _measured(self, wanted: Measurement, report: Mapping[str, Any]) -> Quantity:
        value = self._number(wanted.key, report, wanted.minimum, wanted.maximum)
        return Quantity(wanted.name, value, wanted.unit)

    def _finding(self, wanted: Probability, report: Mapping[str, Any]) -> Finding:
        value = self._number(wanted.key, report, 0.0, 1.0)
        point = wanted.operating_point
        return Finding(wanted.concept, value, point, value >= point, self._model.card.site)

    def _number(self, key: str, report: Mapping[str, Any], low: float, high: float) -> float:
        found: Any = report
        for part in key.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
            raise OutputUnusable(f"{self._model.card.id}: {self.recipe.report} has no number {key}")
        if not low <= found <= high:
            raise OutputUnusable(f"{self._model.card.id}: {key} is not within {low:g} and {high:g}")
        return float(found)
