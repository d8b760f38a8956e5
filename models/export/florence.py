"""Florence-2 in its original released layout, as AG-KD and K2Sight publish it: grounding of phrases on radiographs.

Graphs ``vision``, ``embed``, ``encoder`` (image and prompt to cross-attention keys) and ``decoder``. The code published
beside such weights (``trust_remote_code``) is never run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from models.errors import CheckpointMismatch
from models.export.bart_network import Bart, PromptEncoder
from models.export.checkpoint import load_exactly
from models.export.davit_network import DavitShape, FlorenceVision
from models.export.encoder_decoder_graphs import cache_names, export_writer
from models.export.graph_export import Exported, Recipe, export_graph
from models.export.imported import Imported, Tables, complete_card
from models.export.language_graphs import export_embedder, export_vision
from models.export.released_folder import ReleasedFolder, part, require_all_used, sizes
from models.export.report_decoder_network import WriterShape
from models.export.vision_language import noise

VISION = ("vision_tower.", "image_projection", "image_proj_norm.", "image_pos_embed.", "visual_temporal_embed.")
TEXT = "language_model."
_TIED = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")
_SHARED = "model.shared.weight"


def convert_florence(system: str, checkpoint: Path, folder: Path, *, inner: int, size: int) -> Imported:
    """Convert a released folder.

    Parameters
    ----------
    inner : int
        Pixels to which the long side is brought before the image is padded to a square.
    size : int
        Pixels of the square the network sees.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe, ExportFailed
    """
    released = ReleasedFolder(checkpoint)
    vision, bart = networks(released.config)
    tensors = released.tensors()
    load_florence(vision, bart, tensors)
    shape = bart.shape
    graphs = {
        "vision": export_vision(vision, noise((2, 3, size, size), (1, 3, size, size)), folder),
        "embed": export_embedder(bart, shape.vocabulary, folder),
        "encoder": _export_prompt_encoder(bart, folder),
        "decoder": export_writer(bart, 9, folder),
    }
    released.tokenizer().save(str(folder / "tokenizer.json"), pretty=False)
    tables = _settings(released, inner, size)
    tables["options.cache"] = {"layers": shape.layers, "heads": shape.heads, "head_size": shape.width // shape.heads}
    card = complete_card(system, folder, graphs, files={"tokenizer": "tokenizer.json"}, tables=tables)
    return Imported(system, released.weights, card, tuple(graphs.values()), len(tensors))


def networks(config: Mapping[str, Any]) -> tuple[FlorenceVision, Bart]:
    """Networks of the sizes ``config.json`` states.

    Raises
    ------
    CheckpointMismatch
        It is another architecture, or a size is missing.
    """
    halves = sizes(config, "vision_config", "text_config")
    seen, text = halves["vision_config"], halves["text_config"]
    stated = sizes(seen, "dim_embed", "depths", "num_heads", "num_groups", "patch_size", "patch_stride")
    stated |= sizes(seen, "patch_padding", "patch_prenorm", "window_size", "projection_dim")
    davit = DavitShape(
        widths=tuple(stated["dim_embed"]),
        depths=tuple(stated["depths"]),
        heads=tuple(stated["num_heads"]),
        groups=tuple(stated["num_groups"]),
        patches=tuple(stated["patch_size"]),
        strides=tuple(stated["patch_stride"]),
        paddings=tuple(stated["patch_padding"]),
        norm_first=tuple(stated["patch_prenorm"]),
        window=int(stated["window_size"]),
        projection=int(stated["projection_dim"]),
        positions=int(seen.get("image_pos_embed", {}).get("max_pos_embeddings", 50)),
        moments=int(seen.get("visual_temporal_embedding", {}).get("max_temporal_embeddings", 100)),
    )
    words = sizes(text, "d_model", "encoder_layers", "decoder_layers", "vocab_size")
    if words["encoder_layers"] != words["decoder_layers"] or text.get("scale_embedding", False):
        raise CheckpointMismatch("encoder and decoder differ in depth, or embeddings are scaled: not Florence-2")
    shape = WriterShape(
        vocabulary=int(words["vocab_size"]),
        width=int(words["d_model"]),
        layers=int(words["decoder_layers"]),
        heads=int(text.get("decoder_attention_heads", 12)),
        hidden=int(text.get("decoder_ffn_dim", 4 * words["d_model"])),
        positions=int(text.get("max_position_embeddings", 1024)),
    )
    return FlorenceVision(davit), Bart(shape)


def load_florence(vision: FlorenceVision, bart: Bart, tensors: Mapping[str, Tensor]) -> None:
    """Load released tensors exactly; embeddings that are shared may stand in the file once."""
    require_all_used(tensors, (*VISION, TEXT))
    load_exactly(vision, {key: value for key, value in tensors.items() if key.startswith(VISION)})
    text = part(tensors, TEXT)
    shared = next((text[key] for key in (_SHARED, *_TIED) if key in text), None)
    if shared is not None:
        text = {**dict.fromkeys((_SHARED, *_TIED), shared), **text}
    load_exactly(bart, text)
    vision.eval()
    bart.eval()


def _export_prompt_encoder(bart: Bart, folder: Path) -> Exported:
    inputs = noise((2, 9, bart.shape.width), (1, 12, bart.shape.width), (1, 5, bart.shape.width))
    recipe = Recipe(
        ("inputs_embeds",),
        cache_names("cross", bart.shape.layers),
        (inputs[0],),
        [(each,) for each in inputs],
        {"inputs_embeds": {0: "batch", 1: "seq"}},
        legacy_first=True,
    )
    return export_graph(PromptEncoder(bart), recipe, folder / "encoder.onnx")


def _settings(released: ReleasedFolder, inner: int, size: int) -> dict[str, Any]:
    """How it writes, as the released files state it; three beams and no run of three tokens twice where they are silent."""
    told = {**released.config.get("text_config", {}), **released.json("generation_config.json", required=False)}
    beams = int(told.get("num_beams") or 3)
    stop = int(told.get("eos_token_id", 2))
    decoding = {
        "start_tokens": [int(told.get("decoder_start_token_id", 2))],
        "stop_tokens": [stop],
        "maximum_tokens": 1024,
        "seconds": 120.0,
        "no_repeat_ngram": int(told.get("no_repeat_ngram_size", 3)),
    }
    for ours, theirs in (("forced_first", "forced_bos_token_id"), ("forced_last", "forced_eos_token_id")):
        if told.get(theirs) is not None:
            decoding[ours] = int(told[theirs])
    tables: Tables = {
        "options.decoding": decoding,
        "options.decoding.strategy": {
            "kind": "beams" if beams > 1 else "greedy",
            "beams": beams,
            "length_penalty": float(told.get("length_penalty", 1.0)),
            "early_stopping": bool(told.get("early_stopping", True)),
        },
        "options.image": {"levels": "own_range", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        "options.image.steps": [
            {"step": "long_side", "size": inner, "filter": "cv2_linear"},
            {"step": "pad_centre", "size": inner},
            {"step": "stretch", "size": size, "filter": "pil_bicubic"},
        ],
    }
    return dict(tables)
