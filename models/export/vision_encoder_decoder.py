"""Report generators of transformers' ``VisionEncoderDecoderModel``: ViT or Swin and BERT or GPT-2 to two graphs and a card.

The folder is as ``save_pretrained`` writes it. The card is a template: what the model was trained on, its licence and the
kind of image stand in it for the site to fill in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.errors import CheckpointMismatch
from models.export.checkpoint import load_exactly
from models.export.encoder_decoder_graphs import export_image_encoder, export_writer
from models.export.imported import Imported, complete_card
from models.export.released_folder import ReleasedFolder, part, require_all_used, sizes
from models.export.report_decoder_network import BertWriter, GptWriter, WriterShape
from models.export.swin_network import STALE, Swin, SwinShape
from models.export.vit_encoder_network import VisionTransformer, VitShape

SYSTEM = "vision-encoder-decoder"
Writer = BertWriter | GptWriter
_STALE = (
    STALE,
    "position_ids",
    ".attn.bias",
    ".attn.masked_bias",
    ".crossattention.bias",
    ".crossattention.masked_bias",
)
"""Buffers of old files; they say nothing."""


class ProjectedEncoder(nn.Module):
    """Image encoder and, where widths differ, ``enc_to_dec_proj``."""

    def __init__(self, encoder: VisionTransformer | Swin, width: int, out: int) -> None:
        super().__init__()
        self.encoder = encoder
        if width != out:
            self.enc_to_dec_proj = nn.Linear(width, out)

    def forward(self, pixel_values: Tensor) -> Tensor:
        states = self.encoder(pixel_values)
        return self.enc_to_dec_proj(states) if hasattr(self, "enc_to_dec_proj") else states


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert a released folder.

    Parameters
    ----------
    checkpoint : Path
        Folder with ``config.json``, weights, ``tokenizer.json`` and, where they are stated there,
        ``generation_config.json`` and ``preprocessor_config.json``.
    folder : Path
        Existing folder; gets ``encoder.onnx``, ``decoder.onnx``, ``tokenizer.json`` and ``model.toml``.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe, ExportFailed
    """
    released = ReleasedFolder(checkpoint)
    encoder, writer = networks(released.config)
    tensors = released.tensors()
    load(encoder, writer, tensors)
    tokenizer = released.tokenizer()
    pixels = int(released.config["encoder"].get("image_size", 224))
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(n, 3, pixels, pixels, generator=generator) for n in (2, 1)]
    with torch.no_grad():
        tokens = encoder(images[1]).shape[1]
    graphs = {
        "encoder": export_image_encoder(encoder, writer, writer.shape.layers, images, folder),
        "decoder": export_writer(writer, tokens, folder),
    }
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    card = complete_card(
        SYSTEM,
        folder,
        graphs,
        files={"tokenizer": "tokenizer.json"},
        tables={"options.cache": cache_table(writer.shape), **_settings(released, pixels)},
    )
    return Imported(SYSTEM, released.weights, card, tuple(graphs.values()), len(tensors))


def networks(config: dict[str, Any]) -> tuple[ProjectedEncoder, Writer]:
    """Networks of the sizes ``config.json`` states.

    Raises
    ------
    CheckpointMismatch
        It is another architecture.
    """
    halves = sizes(config, "encoder", "decoder")
    kinds = halves["encoder"].get("model_type"), halves["decoder"].get("model_type")
    if kinds[0] not in ("vit", "swin") or kinds[1] not in ("bert", "gpt2"):
        raise CheckpointMismatch(
            f"a {kinds[0]} that is read by a {kinds[1]} has no converter; ViT or Swin and BERT or GPT-2 have"
        )
    writer: Writer = BertWriter(_bert(halves["decoder"])) if kinds[1] == "bert" else GptWriter(_gpt(halves["decoder"]))
    if kinds[0] == "swin":
        windows = _swin(halves["encoder"])
        return ProjectedEncoder(Swin(windows), windows.out_width, writer.shape.width), writer
    vision = VitShape(
        **{
            ours: halves["encoder"].get(theirs, default)
            for ours, theirs, default in (
                ("size", "image_size", 224),
                ("patch", "patch_size", 16),
                ("width", "hidden_size", 768),
                ("layers", "num_hidden_layers", 12),
                ("heads", "num_attention_heads", 12),
                ("hidden", "intermediate_size", 3072),
                ("epsilon", "layer_norm_eps", 1e-12),
            )
        }
    )
    return ProjectedEncoder(VisionTransformer(vision), vision.width, writer.shape.width), writer


def _swin(config: dict[str, Any]) -> SwinShape:
    shape = SwinShape(
        size=config.get("image_size", 224),
        patch=config.get("patch_size", 4),
        width=config.get("embed_dim", 96),
        depths=tuple(config.get("depths", (2, 2, 6, 2))),
        heads=tuple(config.get("num_heads", (3, 6, 12, 24))),
        window=config.get("window_size", 7),
        mlp_ratio=int(config.get("mlp_ratio", 4)),
    )
    stated = {"use_absolute_embeddings": False, "qkv_bias": True, "hidden_act": "gelu", "layer_norm_eps": 1e-5}
    other = [f"{name} = {config[name]}" for name, value in stated.items() if config.get(name, value) != value]
    # Smaller maps than a window, and those that do not divide, are padded by transformers; no release needs it.
    if shape.size % (shape.patch * shape.window << (len(shape.depths) - 1)):
        other.append(f"image_size = {shape.size}, which windows of {shape.window} do not divide")
    if other:
        raise CheckpointMismatch(f"config.json states another Swin: {', '.join(other)}", problems=other)
    return shape


def _bert(config: dict[str, Any]) -> WriterShape:
    return WriterShape(
        vocabulary=config.get("vocab_size", 30522),
        width=config.get("hidden_size", 768),
        layers=config.get("num_hidden_layers", 12),
        heads=config.get("num_attention_heads", 12),
        hidden=config.get("intermediate_size", 3072),
        positions=config.get("max_position_embeddings", 512),
        types=config.get("type_vocab_size", 2),
        epsilon=config.get("layer_norm_eps", 1e-12),
    )


def _gpt(config: dict[str, Any]) -> WriterShape:
    width = config.get("n_embd", 768)
    return WriterShape(
        vocabulary=config.get("vocab_size", 50257),
        width=width,
        layers=config.get("n_layer", 12),
        heads=config.get("n_head", 12),
        hidden=config.get("n_inner") or 4 * width,
        positions=config.get("n_positions", 1024),
        epsilon=config.get("layer_norm_epsilon", 1e-5),
    )


def load(encoder: ProjectedEncoder, writer: Writer, tensors: dict[str, Tensor]) -> None:
    """Load released tensors exactly; a head that is tied to the embeddings may be left out of the file."""
    kept = {key: value for key, value in tensors.items() if not key.endswith(_STALE)}
    require_all_used(kept, ("encoder.", "decoder.", "enc_to_dec_proj."))
    image = {key: value for key, value in kept.items() if not key.startswith("decoder.")}
    if isinstance(encoder.encoder, VisionTransformer) and not any(key.startswith("encoder.pooler.") for key in kept):
        del encoder.encoder.pooler
    load_exactly(encoder, image)
    text = part(kept, "decoder.")
    pairs = (
        ("lm_head.weight", "transformer.wte.weight"),
        ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
        ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    )
    for head, embedding in pairs:
        if head not in text and embedding in text:
            text[head] = text[embedding]
    load_exactly(writer, text)
    encoder.eval()
    writer.eval()


def cache_table(shape: WriterShape) -> dict[str, int]:
    """``options.cache`` of a writer."""
    return {"layers": shape.layers, "heads": shape.heads, "head_size": shape.width // shape.heads}


def _settings(released: ReleasedFolder, pixels: int) -> dict[str, Any]:
    """How it writes and what it looks at, as the released files state it."""
    told = {**released.config.get("decoder", {}), **released.config}
    told |= released.json("generation_config.json", required=False)
    start = told.get("decoder_start_token_id", told.get("bos_token_id"))
    stop = told.get("eos_token_id")
    if start is None or stop is None:
        raise CheckpointMismatch("no file states decoder_start_token_id and eos_token_id")
    beams = int(told.get("num_beams") or 1)
    processor = released.json("preprocessor_config.json", required=False)
    mean, std = (processor.get(name, [0.5, 0.5, 0.5]) for name in ("image_mean", "image_std"))
    return {
        "options.decoding": {
            "start_tokens": [int(start)],
            "stop_tokens": [int(each) for each in (stop if isinstance(stop, list) else [stop])],
            "maximum_tokens": int(told.get("max_new_tokens") or told.get("max_length") or 256),
            "seconds": 120.0,
            "repetition_penalty": float(told.get("repetition_penalty") or 1.0),
            "no_repeat_ngram": int(told.get("no_repeat_ngram_size") or 0),
        },
        "options.decoding.strategy": {
            "kind": "beams" if beams > 1 else "greedy",
            "beams": beams,
            "length_penalty": float(told.get("length_penalty", 1.0)),
            "early_stopping": told.get("early_stopping") or False,
        },
        "options.image": {"levels": "own_range", "mean": list(mean), "std": list(std)},
        "options.image.steps": [{"step": "stretch", "size": pixels, "filter": "pil_bilinear"}],
    }
