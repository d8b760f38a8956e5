"""The parts of `model.medsam_*` that run in processes of their own."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def export(pixels: str, folder: str) -> dict[str, float]:
    """Random weights of the real layout to graphs; the checkpoint stays for the torch run."""
    import torch

    from models.export.medsam import export as export_graphs

    sam = _network(int(pixels), lean=True)
    torch.save(sam.state_dict(), Path(folder, "medsam.pth"))
    graphs = export_graphs(sam, Path(folder))
    return {"difference": max(d for graph in graphs.values() for d in graph.differences)}


def run(runtime: str, pixels: str, folder: str) -> dict[str, float]:
    """CPU seconds of the second run of encoder and decoder, and the peak of the process."""
    import numpy as np

    size = int(pixels)
    rng = np.random.default_rng(0)
    image = rng.random((1, 3, size, size), dtype=np.float32)
    boxes = np.sort(rng.random((5, 1, 2, 2), dtype=np.float32) * (size - 1), axis=2).reshape(5, 1, 4)
    encode, decode = _onnx(folder) if runtime == "onnx" else _torch(size, folder)
    embedding, encoder_seconds = _second(lambda: encode(image))
    _, decoder_seconds = _second(lambda: decode(embedding, boxes))
    status = Path("/proc/self/status").read_text().splitlines()
    peak_kib = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return {"encoder": encoder_seconds, "decoder": decoder_seconds, "peak_rss_mib": peak_kib / 1024}


def _second(action: Callable[[], Any]) -> tuple[Any, float]:
    """What the second of two runs gives, and the CPU seconds it took."""
    action()
    started = time.process_time()
    made = action()
    return made, time.process_time() - started


def _onnx(folder: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    from models.session import CPU, Session

    encoder = Session(Path(folder, "encoder.onnx"), providers=(CPU,), threads=1)
    decoder = Session(Path(folder, "decoder.onnx"), providers=(CPU,), threads=1)
    return (
        lambda image: encoder.run({"pixels": image})["image_embeddings"],
        lambda embedding, boxes: decoder.run({"image_embeddings": embedding, "boxes": boxes})["masks"],
    )


def _torch(size: int, folder: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    import torch

    from models.export.sam_network import BoxDecoder

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    sam = _network(size, lean=False)
    sam.load_state_dict(torch.load(Path(folder, "medsam.pth"), weights_only=True))
    decoder = BoxDecoder(sam).eval()
    return (
        lambda image: sam.image_encoder(torch.from_numpy(image)),
        lambda embedding, boxes: decoder(embedding, torch.from_numpy(boxes)),
    )


def _network(pixels: int, *, lean: bool) -> Any:
    import torch

    from models.export.sam_network import Sam, SamShape

    torch.manual_seed(0)
    sam = Sam(SamShape(image_size=pixels), lean=lean).eval()
    for parameter in sam.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, 0, 0.03)
    sam.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.normal_()
    return sam
