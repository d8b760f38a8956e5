"""``card.toml`` beside published graphs: what no file of such a folder says, held against what the files do say.

Who answers for the model and for what, its licence, which images it takes, what each class means in coded terms and from
which score on, and how stored values become the grey levels the network was trained on: none of it can be guessed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.card import Card
from models.errors import CheckpointMismatch

FILE = "card.toml"
_OURS = ("graphs", "golden", "files", "preprocessing", "postprocessing")
_LEVELS = ("stored_range", "own_range", "own_extremes")
_ACTIVATIONS = {"single_label_classification": "softmax", "multi_label_classification": "sigmoid"}


def read_card(folder: Path) -> dict[str, Any]:
    """The content of ``card.toml``.

    Raises
    ------
    CheckpointMismatch
        It is missing, lacks what only it can say, or says what the graphs do.
    """
    try:
        content = tomllib.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CheckpointMismatch(
            f"{FILE} beside config.json cannot be read ({error}); it says who made the model, for what and under which "
            "licence, which images it takes, and what its classes mean; docs/model-engineer.md has one to begin with"
        ) from error
    needed = [name for name, field in Card.model_fields.items() if field.is_required() and name not in content]
    options = content.get("options")
    if not isinstance(options, dict):
        needed.append("options")
    if needed:
        raise CheckpointMismatch(f"{FILE} lacks {', '.join(needed)}", lacking=needed)
    if stated := [name for name in _OURS if name in content]:
        raise CheckpointMismatch(f"{FILE} states {', '.join(stated)}, which the import writes")
    return content


def require_options(content: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuse options that the import would not look at.

    Raises
    ------
    CheckpointMismatch
    """
    if more := sorted(set(content["options"]) - {"output", "image", *known}):
        raise CheckpointMismatch(f"{FILE}: options.{more[0]}: not one of {', '.join(('output', 'image', *known))}")


def levels(content: Mapping[str, Any]) -> str:
    """How stored values become grey levels: the one thing of the network's image that the card says.

    Raises
    ------
    CheckpointMismatch
        It does not, or says more.
    """
    image = content["options"].get("image", {})
    if not isinstance(image, dict) or image.get("levels") not in _LEVELS:
        raise CheckpointMismatch(
            f"{FILE}: options.image.levels is missing: one of {', '.join(_LEVELS)}; preprocessor_config.json begins at "
            "pictures of 256 levels"
        )
    if more := sorted(set(image) - {"levels"}):
        raise CheckpointMismatch(f"{FILE}: options.image.{more[0]}: that is preprocessor_config.json's to say")
    return str(image["levels"])


def require_flat_input(content: Mapping[str, Any], kinds: Sequence[str], channels: int) -> None:
    """Refuse inputs other than one of ``kinds``, and a photograph for a network that sees no colour.

    Raises
    ------
    CheckpointMismatch
    """
    inputs = content["inputs"]
    found = (
        [each.get("kind") if isinstance(each, dict) else None for each in inputs] if isinstance(inputs, list) else []
    )
    if len(found) != 1 or found[0] not in kinds:
        raise CheckpointMismatch(
            f"{FILE}: inputs: one {' or '.join(kinds)}; of a volume these files say no way to a picture"
        )
    if found[0] == "photograph" and channels != 3:
        raise CheckpointMismatch(f"{FILE}: a photograph has three colours; the graph takes {channels} channels")


def activation(content: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """``softmax`` or ``sigmoid``, by ``problem_type`` of the configuration or, where that is silent, the card.

    Raises
    ------
    CheckpointMismatch
        Neither says it, or both and different things.
    """
    told, card = _ACTIVATIONS.get(str(config.get("problem_type"))), content["options"].get("activation")
    if card is not None and card not in _ACTIVATIONS.values():
        raise CheckpointMismatch(f"{FILE}: options.activation is softmax or sigmoid")
    if told is None and card is None:
        raise CheckpointMismatch(
            f"{FILE}: options.activation is missing, and config.json states no problem_type: softmax where one class excludes "
            "the others, sigmoid where each stands alone"
        )
    if told and card and told != card:
        raise CheckpointMismatch(f"{FILE}: options.activation = {card}; config.json's problem_type means {told}")
    return str(told or card)


def findings(content: Mapping[str, Any], labels: Sequence[str]) -> list[dict[str, Any]]:
    """The card's findings with the number of their output in place of its name.

    Raises
    ------
    CheckpointMismatch
        A class of the network is neither a finding nor left out by name, or the card names one that there is not.
    """
    given = content["options"].get("findings", [])
    names = [str(each.get("label")) for each in given if isinstance(each, dict)]
    require_all_named(names, content, labels, "options.findings")
    return [
        {"output": labels.index(name), **{key: value for key, value in each.items() if key != "label"}}
        for name, each in zip(names, given, strict=True)
    ]


def require_all_named(names: Sequence[str], content: Mapping[str, Any], labels: Sequence[str], where: str) -> None:
    """Each class of the network once, among ``names`` or in ``options.left_out``.

    Raises
    ------
    CheckpointMismatch
    """
    left_out = content["options"].get("left_out", [])
    named = [*names, *left_out]
    unknown, lacking = sorted(set(named) - set(labels)), [each for each in labels if each not in named]
    twice = sorted({each for each in named if named.count(each) > 1})
    if not names or unknown or lacking or twice:
        wrong = (("unknown", unknown), ("lacking", lacking), ("twice", twice))
        parts = [f"{what} {', '.join(each)}" for what, each in wrong if each]
        raise CheckpointMismatch(
            f"{FILE}: {where} and options.left_out must name each class of config.json once: {', '.join(labels)}"
            + (f" ({'; '.join(parts)})" if parts else " (there is no finding)"),
            labels=list(labels),
        )


def completed(content: Mapping[str, Any], options: Mapping[str, Any], published: Mapping[str, Any]) -> dict[str, Any]:
    """The card with its options, and with where the graph comes from and what it was compared with.

    Parameters
    ----------
    published : mapping
        As it stands in the report: ``file``, ``sha256``, ``weights``, ``compared_with``.
    """
    caveats = list(content.get("caveats", []))
    if not published["compared_with"]:
        caveats.append(
            f"The graph was taken as published and could not be compared with the original: {published['not_compared']}."
        )
    made = {
        **content,
        "options": dict(options),
        "provenance": {**content.get("provenance", {}), "published": published},
    }
    if kind := published["weights"]:
        made["name"] = f"{content['name']} ({kind} weights)"
        made["version"] = f"{content['version']}+{kind}"
        measured = published.get("largest_difference")
        told = (
            f": outputs differ from the float original by up to {100 * measured:.2g} % of the largest"
            if measured
            else ""
        )
        caveats.append(f"Weights are {kind}, as published{told}.")
    return {**made, "caveats": caveats}
