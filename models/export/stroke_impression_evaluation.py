"""Measure the stroke-impression demonstration on phantoms it has not seen, through the node's own path.

``python -m models.export.stroke_impression_evaluation [FOLDER]`` prints the figures the card states as evidence.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from pathlib import Path

from models.adapters.generation import GenerationAdapter
from models.card import EMBEDDED
from models.errors import ModelError
from models.export.stroke_impression_data import random_phantom, truth_result, with_other_volumes
from models.export.stroke_impression_text import LANGUAGES, WITHHELD, sentence
from models.model import Model
from models.report import objections
from models.report_facts import ReportFacts
from models.results import Outcome, StudyResult
from models.volume import Volume

HELD_OUT_SEED = 90_210
"""Never a training seed; the phantoms' own seeds are drawn from 2^31 numbers."""
GRID_ZYX = (24, 96, 96)
"""Finer than the training grid."""


def main() -> None:
    """Print the evidence as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=EMBEDDED / "stroke-impression-demo")
    parser.add_argument("--count", type=int, default=200)
    arguments = parser.parse_args()
    print(json.dumps(evaluate(Model(arguments.folder, threads=1), arguments.count), indent=1, ensure_ascii=False))


def evaluate(model: Model, count: int) -> dict[str, int]:
    """Return how many of the texts on ``count`` phantoms, in both languages, pass.

    ``passed`` means: contradicts nothing and leaves nothing out, so that the node would show it. ``own`` are the
    phantom's own figures with the side stated; ``other`` the same with volumes drawn afresh; ``side withheld`` leaves
    the side to be read off the image and counts only studies with an infarct.
    """
    stated, blind = GenerationAdapter(model), _without_side(model)
    counts: Counter[str] = Counter()
    rng = random.Random(HELD_OUT_SEED)
    for _ in range(count):
        phantom = random_phantom(rng, shape_zyx=GRID_ZYX)
        inputs = {"dwi": phantom.dwi, "adc": phantom.adc}
        own = truth_result(phantom, detection_limit_ml=10 ** rng.uniform(-2, 0))
        cases = [("own", stated, own), ("other", stated, with_other_volumes(own, rng))]
        if own.outcome is Outcome.FOUND:
            cases.append(("side withheld", blind, own))
        for language in LANGUAGES:
            for name, adapter, result in cases:
                _count(counts, f"{name} {language}", adapter, result, inputs, language)
    return dict(sorted(counts.items()))


def _count(
    counts: Counter[str],
    name: str,
    adapter: GenerationAdapter,
    result: StudyResult,
    inputs: dict[str, Volume],
    language: str,
) -> None:
    counts[f"{name} texts"] += 1
    try:
        text = adapter.write(result, inputs, language)
    except ModelError as error:
        print(f"{name}: {error}")
        return
    problems = objections(text, result, None)
    counts[f"{name} passed"] += not problems
    counts[f"{name} as learnt"] += text.impression == sentence(ReportFacts.of(result), language)
    if problems and adapter.recipe.prompt.template.count("{side}"):
        print(f"{name}: {problems} {text.impression!r}")


def _without_side(model: Model) -> GenerationAdapter:
    adapter = GenerationAdapter(model)
    template = adapter.recipe.prompt.template.replace("[{side}]", WITHHELD)
    prompt = adapter.recipe.prompt.model_copy(update={"template": template})
    adapter.recipe = adapter.recipe.model_copy(update={"prompt": prompt})
    return adapter


if __name__ == "__main__":
    main()
