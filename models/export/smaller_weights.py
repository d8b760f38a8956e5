"""Smaller weights for a text model's graphs, and what that changes in what it writes, measured before it is kept.

Graphs that see images stay as they are.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from models.adapters.reading import ReadingAdapter
from models.card import CARD_FILE, Card
from models.errors import QuantisationRefused
from models.export import eight_bit, four_bit, half_precision
from models.export.card_graphs import graph_size, put_graph, write_card
from models.export.drift import Drift, Swapped, measured_drift
from models.export.graph_export import golden_path
from models.export.imported import Imported
from models.export.weight_kinds import MOST_CHANGED
from models.golden import write_golden
from models.model import Model
from models.session import CPU, Session


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of weights.

    Attributes
    ----------
    make : mapping
        Graph → what turns its file into that of the same graph with these weights; an ``encoder`` only where it reads words.
    tolerance : float
        How far another device may be from the known answers.
    words, caveat, how : str
        As the card says it.
    """

    name: str
    make: Mapping[str, Callable[[Path], Path]]
    tolerance: float
    words: str
    caveat: str
    how: str


KINDS = {
    each.name: each
    for each in (
        Kind(
            name="int8",
            make=dict.fromkeys(("encoder", "decoder"), eight_bit.quantised),
            tolerance=eight_bit.TOLERANCE,
            words="8-bit weights",
            caveat="Weights are quantised to 8 bits",
            how="dynamic, made for CPUs",
        ),
        Kind(
            name="fp16",
            make=dict.fromkeys(("embed", "encoder", "decoder"), half_precision.halved),
            tolerance=half_precision.TOLERANCE,
            words="half-precision weights",
            caveat="Weights are in half precision",
            how="products and tables in half, the rest in float32",
        ),
        Kind(
            name="int4",
            # Looking a word up is no product: its table would lose most and gain no time, so it is halved.
            make={
                "embed": half_precision.halved,
                "encoder": four_bit.quantised,
                "decoder": four_bit.quantised,
            },
            tolerance=four_bit.TOLERANCE,
            words="4-bit weights",
            caveat="Weights are quantised to 4 bits",
            how=f"in blocks of {four_bit.BLOCK}, the last product at {four_bit.HEAD_BITS} bits, tables in half",
        ),
    )
}
"""By the name ``ainode models import --weights`` takes."""


def to_smaller(imported: Imported, folder: Path, kind: str, *, most_changed: float | None = None) -> Imported:
    """Give the text graphs of a converted model smaller weights, in its folder, and say so in its card.

    Parameters
    ----------
    kind : str
        One of :data:`KINDS`.
    most_changed : float or None
        Share of words, 0 to 1, that may change; None: that of :data:`~models.export.weight_kinds.MOST_CHANGED`.

    Raises
    ------
    QuantisationRefused
        It writes no text from an image, a weight does not fit, a logit is no number any more, or more than ``most_changed``
        of its words change.
    """
    chosen = KINDS[kind]
    allowed = MOST_CHANGED[kind] if most_changed is None else most_changed
    if imported.card.options.get("reads") != "image":
        raise QuantisationRefused(f"{imported.card.id} has no graph that writes text; import it with float weights")
    model = Model(folder)
    names = [name for name in chosen.make if name in model.card.graphs]
    if model.card.options["architecture"] != "prompt_encoder":
        names = [name for name in names if name != "encoder"]
    made = {name: chosen.make[name](folder / model.card.graphs[name].file) for name in names}
    drift = measured_drift(ReadingAdapter(model), ReadingAdapter(Swapped(model, made)))  # type: ignore[arg-type]
    if not drift.changed <= allowed or not np.isfinite(drift.largest):
        raise QuantisationRefused(
            f"{imported.card.id}: {chosen.words} change {drift.changed:.1%} of {drift.places} words, allowed are "
            f"{allowed:.1%}; logits differ by {drift.mean:.2g} in the mean (their spread is {drift.spread:.2g})",
            changed=drift.changed,
        )
    weights = {
        "kind": chosen.name,
        "graphs": {name: path.name for name, path in made.items()},
        "bytes": sum(graph_size(path) for path in made.values()),
        "bytes_float": sum(graph_size(folder / model.card.graphs[name].file) for name in names),
        "drift": {key: round(value, 6) for key, value in asdict(drift).items()},
    }
    return replace(imported, card=_rewritten(model.card, folder, chosen, made, drift), weights=weights)


def _rewritten(card: Card, folder: Path, kind: Kind, made: Mapping[str, Path], drift: Drift) -> Card:
    """The card with the new graphs, their known answers and what was measured; the float graphs are removed."""
    content = tomllib.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
    for name, path in made.items():
        old = folder / card.graphs[name].file
        _answer(golden_path(old), path, golden_path(path))
        put_graph(content, name, old, path, tolerance=kind.tolerance)
    measured = (
        f"{drift.changed:.1%} of {drift.places} words are other ones than with float weights, after the same words; logits "
        f"differ by {drift.mean:.2g} in the mean and {drift.largest:.2g} at most, their spread is {drift.spread:.2g}"
    )
    content["name"] += f" ({kind.words})"
    content["version"] += f"+{kind.name}"
    content["caveats"] = [*content.get("caveats", []), f"{kind.caveat}: {measured}."]
    content.setdefault("provenance", {})["weights"] = f"{kind.name}, {kind.how}, of {', '.join(made)}"
    return write_card(content, folder)


def _answer(old: Path, graph: Path, golden: Path) -> None:
    """The new graph's own known answer to the inputs of the float one's."""
    with np.load(old, allow_pickle=False) as stored:
        inputs = {name[3:]: stored[name] for name in stored.files if name.startswith("in:")}
    session = Session(graph, providers=(CPU,))
    write_golden(golden, inputs, session.run(inputs, session.outputs))
