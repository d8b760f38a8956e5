"""The parts of `model.generation_tokens` that run in processes of their own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOKENS = 64
BEAMS = 4
START = 1


def _configs(size: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """ViT-B/16 and six layers of BERT-base; or the same, small."""
    if size == "real":
        return {}, {"num_hidden_layers": 6}
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    return {**small, "image_size": 32, "patch_size": 8}, {**small, "vocab_size": 200}


def export(size: str, folder: str) -> dict[str, float]:
    """Random weights to a checkpoint and its two graphs."""
    import torch

    from models.export.encoder_decoder_graphs import export_image_encoder, export_writer
    from models.export.vision_encoder_decoder import networks

    torch.manual_seed(0)
    vision, text = _configs(size)
    encoder, writer = networks({"encoder": {"model_type": "vit", **vision}, "decoder": {"model_type": "bert", **text}})
    for module in (encoder, writer):
        for name, value in module.named_parameters():
            if value.ndim > 1:
                # Large embeddings make the tokens vary, as those of a trained model do.
                torch.nn.init.normal_(value, 0, 1.0 if "position_embeddings" in name else 0.06)
            elif name.endswith("LayerNorm.weight"):
                torch.nn.init.ones_(value)
    state = {**encoder.state_dict(), **{f"decoder.{key}": value for key, value in writer.state_dict().items()}}
    torch.save(state, Path(folder, "weights.pth"))
    pixels = int(vision.get("image_size", 224))
    images = [torch.randn(n, 3, pixels, pixels) for n in (1, 2)]
    export_image_encoder(encoder.eval(), writer.eval(), writer.shape.layers, images, Path(folder))
    export_writer(writer, (pixels // int(vision.get("patch_size", 16))) ** 2 + 1, Path(folder))
    shape = {
        "layers": writer.shape.layers,
        "heads": writer.shape.heads,
        "size": writer.shape.width // writer.shape.heads,
    }
    Path(folder, "shape.json").write_text(json.dumps({**shape, "pixels": pixels}))
    weights = sum(value.numel() for module in (encoder, writer) for value in module.parameters())
    return {"millions": weights / 1e6, "tokens": TOKENS}


def write(runtime: str, size: str, folder: str) -> dict[str, Any]:
    """CPU seconds a token of the second run, and the texts."""
    ways = _onnx(folder) if runtime == "onnx" else _transformers(size, folder)
    measured: dict[str, Any] = {"texts": []}
    for name, way in ways.items():
        way()
        started = time.process_time()
        tokens = way()
        measured[name] = (time.process_time() - started) / len(tokens)
        measured["texts"].append(tokens)
    return measured


def _image(pixels: int) -> Any:
    import numpy as np

    return np.random.default_rng(0).standard_normal((1, 3, pixels, pixels)).astype(np.float32)


def _onnx(folder: str) -> dict[str, Callable[[], list[int]]]:
    from models.generation.limits import Limits
    from models.generation.strategies import Strategy, write
    from models.generation.wiring import CacheShape, EncoderDecoder
    from models.session import CPU, Session

    shape = json.loads(Path(folder, "shape.json").read_text())
    encoder = Session(Path(folder, "encoder.onnx"), providers=(CPU,), threads=1)
    decoder = Session(Path(folder, "decoder.onnx"), providers=(CPU,), threads=1)
    features = encoder.run({"pixel_values": _image(shape["pixels"])})
    cache = CacheShape(shape["layers"], shape["heads"], shape["size"])

    def way(strategy: Strategy) -> list[int]:
        # No token stops it: both write the same number.
        limits = Limits(TOKENS, (-1,))
        return list(write(EncoderDecoder(decoder, features, cache, [START]), strategy, limits).tokens)

    return {
        "greedy": lambda: way(Strategy()),
        "beams": lambda: way(Strategy(kind="beams", beams=BEAMS)),
    }


def _transformers(size: str, folder: str) -> dict[str, Callable[[], list[int]]]:
    import torch
    import transformers
    from transformers.modeling_outputs import BaseModelOutput

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    vision, text = _configs(size)
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        transformers.ViTConfig(**vision),
        transformers.BertConfig(is_decoder=True, add_cross_attention=True, tie_word_embeddings=False, **text),
    )
    config.tie_word_embeddings = False
    checkpoint = Path(folder, "transformers")
    transformers.VisionEncoderDecoderModel(config=config).save_pretrained(checkpoint)
    weights = torch.load(Path(folder, "weights.pth"), weights_only=True)
    from safetensors.torch import save_file

    unique = {key: value.clone() for key, value in weights.items()}
    save_file(unique, checkpoint / "model.safetensors")
    model, told = transformers.VisionEncoderDecoderModel.from_pretrained(checkpoint, output_loading_info=True)
    if told["missing_keys"] or told["unexpected_keys"]:
        raise SystemExit(f"transformers did not take the weights: {told}")
    model.eval()
    pixels = torch.from_numpy(_image(int(vision.get("image_size", 224))))
    states = BaseModelOutput(last_hidden_state=model.encoder(pixels).last_hidden_state)

    def way(**settings: Any) -> list[int]:
        made = model.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=states.last_hidden_state.clone()),
            decoder_start_token_id=START,
            bos_token_id=START,
            pad_token_id=0,
            eos_token_id=None,
            max_new_tokens=TOKENS,
            do_sample=False,
            **settings,
        )
        return made[0, 1:].tolist()

    return {"greedy": lambda: way(), "beams": lambda: way(num_beams=BEAMS)}
