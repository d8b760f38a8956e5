"""A folder of Hugging Face's layout that holds ready-made graphs: which files they are, and what its configuration says.

optimum, onnx-community and Xenova publish so: ``config.json``, ``preprocessor_config.json``, ``onnx/model.onnx`` with its
``model.onnx_data``, or ``onnx/vision_model.onnx`` and ``onnx/text_model.onnx``; smaller weights as siblings with the kind
behind the name (``model_int8.onnx``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from models.errors import CheckpointMismatch
from models.export import image_processor
from models.export.released_folder import ReleasedFolder

SYSTEM = "onnx-folder"
SUBFOLDER = "onnx"
_GENERATING = re.compile(
    r"(decoder|encoder)_model|decoder_with_past|embed_tokens|prompt_encoder|vision_encoder|lm_head"
)
_WRITING = re.compile(r"(CausalLM|ConditionalGeneration|Seq2SeqLM|VisionEncoderDecoderModel|ImageTextToText)$")


class OnnxFolder:
    """One such folder.

    Parameters
    ----------
    path : Path
    variant : str
        Kind of smaller weights, as the files are called: ``int8``, ``fp16``, ``q4`` …; empty: as trained.

    Raises
    ------
    CheckpointMismatch
        It is none, or of a model that writes text.
    """

    def __init__(self, path: Path, variant: str = "") -> None:
        if not path.is_dir():
            raise CheckpointMismatch(f"{path.name} is no folder; name the one with config.json and {SUBFOLDER}/")
        self.path = path
        self.variant = variant
        self.released = ReleasedFolder(path)
        self._refuse_writing()

    @property
    def graphs(self) -> Path:
        """Folder of the graphs."""
        below = self.path / SUBFOLDER
        if below.is_symlink():
            raise CheckpointMismatch(f"{SUBFOLDER} is a link; fetch the files themselves")
        return below if below.is_dir() else self.path

    @property
    def config(self) -> dict[str, Any]:
        """``config.json``."""
        return self.released.config

    def graph(self, part: str) -> Path:
        """File of ``model``, ``vision_model`` or ``text_model``, of the kind of weights that was asked for.

        Raises
        ------
        CheckpointMismatch
            There is none; smaller weights are never taken in its place.
        """
        path = self.graphs / f"{part}{f'_{self.variant}' if self.variant else ''}.onnx"
        if path.is_file() or path.is_symlink():
            return path
        kinds = sorted(each.stem.removeprefix(f"{part}_") for each in self.graphs.glob(f"{part}_*.onnx"))
        others = f"; there are smaller weights, which are only taken when named: --variant {' or '.join(kinds)}"
        raise CheckpointMismatch(f"{self.path.name} has no {path.name}{others if kinds else ''}")

    def has(self, part: str) -> bool:
        """Whether there is a graph of that name, whatever its weights."""
        return any(self.graphs.glob(f"{part}.onnx")) or any(self.graphs.glob(f"{part}_*.onnx"))

    @property
    def vision(self) -> Mapping[str, Any]:
        """Configuration of the half that sees."""
        return self.config.get("vision_config") or self.config

    def channels(self, stated: int | None) -> int:
        """Of the network's image: as the graph states it, else as the configuration does, else three.

        Raises
        ------
        CheckpointMismatch
            Graph and configuration contradict each other.
        """
        told = self.vision.get("num_channels")
        if stated is not None and told is not None and stated != told:
            raise CheckpointMismatch(f"config.json states {told} channels; the graph takes {stated}")
        return int(stated or told or 3)

    def image(self, channels: int) -> dict[str, Any]:
        """The card's table for the network's image; raises as :func:`models.export.image_processor.network_image_of`."""
        return image_processor.network_image_of(self.released.json(image_processor.FILE), channels)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Names of the network's classes, in order.

        Raises
        ------
        CheckpointMismatch
            The configuration does not name each once.
        """
        given = self.config.get("id2label")
        if not isinstance(given, dict) or not given:
            raise CheckpointMismatch("config.json has no id2label: what the outputs mean is not known")
        try:
            names = {int(key): str(name) for key, name in given.items()}
        except ValueError as error:
            raise CheckpointMismatch(f"config.json: id2label: {error}") from error
        if sorted(names) != list(range(len(names))) or len(set(names.values())) != len(names):
            raise CheckpointMismatch("config.json: id2label does not name outputs 0, 1, 2 … each by a name of its own")
        stated = self.config.get("num_labels", len(names))
        if stated != len(names):
            raise CheckpointMismatch(f"config.json states {stated} labels and names {len(names)}")
        return tuple(names[n] for n in range(len(names)))

    def _refuse_writing(self) -> None:
        files = sorted({each.name for each in self.graphs.glob("*.onnx") if _GENERATING.match(each.stem)})
        kinds = [name for name in self.config.get("architectures") or [] if _WRITING.search(str(name))]
        if files or kinds or self.config.get("is_encoder_decoder"):
            found = ", ".join([*files[:3], *kinds]) or "an encoder and a decoder"
            raise CheckpointMismatch(
                f"{self.path.name} is of a model that writes text or takes prompts ({found}): its graphs' cache and words "
                "are not known here; import the checkpoint with the converter of its own system (docs/models.md)"
            )
        if not any(self.graphs.glob("*.onnx")):
            raise CheckpointMismatch(
                f"{self.path.name} holds no graphs, neither in {SUBFOLDER}/ nor beside config.json"
            )
