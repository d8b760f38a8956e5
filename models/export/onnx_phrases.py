"""The text half of a published CLIP or SigLIP: phrases to vectors, and what both halves have in common."""

from __future__ import annotations

import re
import string
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.errors import CheckpointMismatch
from models.export.onnx_source import OnnxFolder
from models.export.published_onnx import fed, input_axes, keep_output, output_axes, read_published, write_graph
from models.export.published_parity import Array
from models.session import CPU, Session

PIXELS, WORDS, MASK = "pixel_values", "input_ids", "attention_mask"
"""Inputs of the published graphs."""
SYSTEMS = {"clip": 77, "siglip": 64}
"""``model_type`` → positions of the text half where the configuration is silent."""


@dataclass(frozen=True, slots=True)
class Halves:
    """Where image and text graph are; ``joint``: in one file, which gives vectors of length one."""

    image: Path
    text: Path
    joint: bool


class Phrases:
    """Phrases to vectors (n, joint) by the published text graph, each held against torch's where that is there.

    Attributes
    ----------
    differences : list of float
        Of each phrase from torch, relative to the largest value.
    """

    def __init__(self, source: OnnxFolder, halves: Halves, kind: str, network: Any) -> None:
        self.kind = kind
        self.differences: list[float] = []
        self._network = network
        self._joint = halves.joint
        self._words = source.released.tokenizer()
        self._words.no_padding()
        self._words.no_truncation()
        text = source.config.get("text_config") or {}
        self._positions = int(text.get("max_position_embeddings", SYSTEMS[kind]))
        self._end, self._pad = (self._mark(source, name) for name in ("eos_token", "pad_token"))
        model = read_published(halves.text)
        name = vector_name(model, "text_embeds", kind)
        self._length = input_axes(model, WORDS)[1]
        keep_output(model, name, (WORDS, MASK))
        output_axes(model, name)
        self._takes = {each.name for each in fed(model)}
        with tempfile.TemporaryDirectory() as work:
            path = Path(work, "text.onnx")
            write_graph(model, path)
            self._session = Session(path, providers=(CPU,))

    def __call__(self, phrases: Sequence[str]) -> Tensor:
        return torch.cat([self._vector(each) for each in phrases])

    def _vector(self, phrase: str) -> Tensor:
        feeds = self.feeds(phrase)
        given = {key: value for key, value in feeds.items() if key in self._takes}
        made = torch.from_numpy(self._session.run(given)[self._session.outputs[0]])
        if self._network is not None:
            asked = {key: torch.from_numpy(value) for key, value in given.items()}
            wanted = bare(self._network.get_text_features, **asked)
            wanted = unit(wanted) if self._joint else wanted
            self.differences.append(float((made - wanted).abs().max() / wanted.abs().max().clamp(min=1e-6)))
        return made

    def _mark(self, source: OnnxFolder, name: str) -> int | None:
        """Number of the mark of a phrase's end or of padding; SigLIP's tokenizer has one for both unless told otherwise."""
        told = source.released.json("tokenizer_config.json", required=False).get(name) or "</s>"
        return self._words.token_to_id(str(told["content"] if isinstance(told, dict) else told))

    def feeds(self, phrase: str) -> dict[str, Array]:
        """Words of one phrase, with their mask; SigLIP was trained on phrases padded to all positions.

        Raises
        ------
        CheckpointMismatch
            It is longer than the network reads, or the vocabulary lacks a mark.
        """
        siglip = self.kind == "siglip"
        ids = list(self._words.encode(_canonical(phrase) if siglip else phrase).ids)
        padding = ids[-1] if not siglip else self._pad
        if siglip:
            if self._end is None or padding is None:
                raise CheckpointMismatch("tokenizer.json lacks the mark of a phrase's end or of padding")
            ids = [*(each for each in ids if each != self._end), self._end]
        length = self._length or (self._positions if siglip else len(ids))
        if len(ids) > min(length, self._positions):
            raise CheckpointMismatch(f"a phrase of {len(ids)} words; the network reads {self._positions}: {phrase!r}")
        row = [*ids, *[padding] * (length - len(ids))]
        mask = [1] * len(ids) + [0] * (length - len(ids))
        return {WORDS: np.array([row], np.int64), MASK: np.array([mask], np.int64)}


def _canonical(phrase: str) -> str:
    """As SigLIP's tokenizer writes phrases: small letters, no punctuation, single spaces."""
    bare = phrase.lower().translate(str.maketrans("", "", string.punctuation))
    return re.sub(r"\s+", " ", bare).strip()


def unit(vectors: Tensor) -> Tensor:
    """At length one."""
    return F.normalize(vectors, dim=-1)


def bare(ask: Any, **inputs: Tensor) -> Tensor:
    with torch.no_grad():
        made = ask(**inputs)
    return made if isinstance(made, Tensor) else made.pooler_output


def vector_name(model: Any, name: str, kind: str) -> str:
    """The output with the vector; SigLIP has no projection, so that its pooler's is it."""
    outputs = [each.name for each in model.graph.output]
    return "pooler_output" if name not in outputs and kind == "siglip" else name
