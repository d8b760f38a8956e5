"""A head of a site's own on a backbone: embeddings of labelled images, logistic regression, one graph with both, a card."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.card import CARD_FILE, Card, file_digest
from models.embedding import Embedder
from models.errors import CardInvalid
from models.export.card_text import toml_text
from models.export.head_fit import Head, fit
from models.golden import write_golden
from models.model import Model
from models.session import CPU, Session
from models.volume import Volume

LOG_FILE = "training.json"
_CODED = re.compile(r"(.+) \((\S+) (\S+)\)")


@dataclass(frozen=True, slots=True)
class Labelled:
    """Images with what is known about them.

    Attributes
    ----------
    images : sequence of Volume
        One slice each.
    patients : sequence of str
        Whose image each is; used to keep one patient's images together, and kept nowhere.
    findings : dict
        Name, or ``Name (SCHEME CODE)`` → 0, 1, or −1 for unknown, for each image.
    digest : str
        SHA-256 of the table the labels came from.
    """

    images: Sequence[Volume]
    patients: Sequence[str]
    findings: Mapping[str, Sequence[int]]
    digest: str


def train_head(
    backbone: Model,
    data: Labelled,
    folder: Path,
    *,
    model_id: str,
    title: str,
    seed: int = 0,
    preprocessing: str | None = None,
) -> dict[str, Any]:
    """Train on most patients, measure on the others, write a model.

    Parameters
    ----------
    backbone : Model
        With ``output = "embedding"``.
    folder : Path
        Existing folder; gets ``main.onnx``, its known answer, ``model.toml`` and ``training.json``.
    preprocessing : str, optional
        One of the backbone's; its default when None. The head's card holds that one alone.

    Returns
    -------
    dict
        The training log, as it stands in ``training.json``.

    Raises
    ------
    CardInvalid
        The backbone gives no embedding or has no such preprocessing.
    TooFewImages
        A finding has too few patients.
    """
    embedder = Embedder(backbone)
    chosen = preprocessing or embedder.options.preprocessing
    vectors = np.stack([embedder.embedding(image, chosen) for image in data.images])
    patients = np.array(list(data.patients), dtype=str)
    heads = {
        name: fit(vectors, np.array(values, dtype=np.int64), patients, name, seed)
        for name, values in data.findings.items()
    }
    path = folder / "main.onnx"
    join(backbone.folder / backbone.card.graphs["main"].file, list(heads.values()), path)
    golden = _write_golden(path, embedder)
    log = {
        "backbone": {"model": backbone.card.id, "version": backbone.card.version, "digest": backbone.digest},
        "preprocessing": chosen,
        "seed": seed,
        "labels_sha256": data.digest,
        "findings": {name: head.log for name, head in heads.items()},
    }
    content = _card(backbone, embedder, chosen, heads, {"main": path}, golden, model_id=model_id, title=title)
    (folder / CARD_FILE).write_text(toml_text(content), encoding="utf-8")
    Card.load(folder)
    (folder / LOG_FILE).write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")
    return log


def join(backbone: Path, heads: Sequence[Head], path: Path) -> None:
    """Write ``backbone`` with the linear heads on its embedding: output ``logits`` (n, heads)."""
    model = onnx.load(str(backbone))
    graph = model.graph
    embedding = graph.output[0].name
    weights = np.stack([head.weights for head in heads]).astype(np.float32)
    bias = np.array([head.bias for head in heads], np.float32)
    graph.initializer.extend(
        [numpy_helper.from_array(weights, "head.weight"), numpy_helper.from_array(bias, "head.bias")]
    )
    graph.node.append(helper.make_node("Gemm", [embedding, "head.weight", "head.bias"], ["logits"], transB=1))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["count", len(heads)]))
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _write_golden(path: Path, embedder: Embedder) -> Path:
    """A known answer to an image that is nobody's."""
    session = Session(path, providers=(CPU,))
    recipe = embedder.options.images[embedder.options.preprocessing]
    steps = np.linspace(recipe.low, recipe.high, recipe.size, dtype=np.float32)
    image: npt.NDArray[np.float32] = np.broadcast_to(
        (steps[:, None] + steps[None, :]) / 2, (1, recipe.channels, recipe.size, recipe.size)
    )
    feeds = {session.inputs[0]: np.ascontiguousarray(image)}
    target = path.with_name("main-golden.npz")
    write_golden(target, feeds, session.run(feeds))
    return target


def _card(
    backbone: Model,
    embedder: Embedder,
    preprocessing: str,
    heads: Mapping[str, Head],
    graphs: Mapping[str, Path],
    golden: Path,
    *,
    model_id: str,
    title: str,
) -> dict[str, Any]:
    card = backbone.card
    path = graphs["main"]
    opset = max(each.version for each in onnx.load(str(path), load_external_data=False).opset_import if not each.domain)
    measured = {_concept(name)["meaning"]: head.log["held_back"] for name, head in heads.items()}
    return {
        "id": model_id,
        "version": "1.0.0",
        "title": title,
        "name": title,
        "manufacturer": "This site",
        "family": "feed_forward",
        "licence": f"This site's; backbone {card.id}: {card.licence}",
        "intended_use": f"Research at the site that trained it. {title}.",
        "caveats": ["Not a medical device.", *(each for each in card.caveats if "head" not in each)],
        "limitations": ["not_validated", "scores_are_no_diagnosis"],
        "finding": _term(card.finding),
        "site": _term(card.site),
        "inputs": [each.model_dump(exclude_none=True, mode="json") for each in card.inputs],
        "graphs": {
            "main": {
                "file": path.name,
                "sha256": file_digest(path),
                "inputs": list(card.graphs["main"].inputs),
                "outputs": ["logits"],
                "opset": opset,
            }
        },
        "golden": {"main": {"file": golden.name, "sha256": file_digest(golden)}},
        "options": {
            "output": "findings",
            "activation": "sigmoid",
            "calibration": "none",
            "image": embedder.options.images[preprocessing].model_dump(mode="json"),
            "findings": [
                {"output": number, "operating_point": head.operating_point, "concept": _concept(name)}
                for number, (name, head) in enumerate(heads.items())
            ],
        },
        "provenance": {"backbone": card.id, "backbone_digest": backbone.digest, "preprocessing": preprocessing},
        "evidence": {"held_back": measured},
    }


def _term(term: Any) -> dict[str, str]:
    return {"value": term.value, "scheme": term.scheme, "meaning": term.meaning}


def _concept(name: str) -> dict[str, str]:
    """``Pneumothorax (SCT 36118008)``, or a name with a code of the site's own.

    Raises
    ------
    CardInvalid
        Nothing is left of the name for a code.
    """
    if match := _CODED.fullmatch(name):
        return {"value": match[3], "scheme": match[2], "meaning": match[1]}
    code = re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_")[:16]
    if not code:
        raise CardInvalid(f"the finding {name!r} has no name a code can be made of")
    return {"value": code, "scheme": "99SITE", "meaning": name}
