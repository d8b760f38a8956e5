"""Export of an encoder–decoder: the graphs equal torch, and another network is another card, not other code."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.card import EMBEDDED, file_digest
from models.errors import InferenceFailed
from models.model import Model
from models.phantom import make_phantom
from tests.unit.models_report.builders import nothing_found

torch = pytest.importorskip("torch", reason="export needs torch")
pytest.importorskip("onnxscript", reason="export needs onnxscript")

from models.export.stroke_impression_network import ImpressionNetwork, Shape  # noqa: E402
from models.export.stroke_impression_onnx import (  # noqa: E402
    TOLERANCE,
    export_network,
    identical_texts,
    parity,
)
from models.export.stroke_impression_text import build_tokenizer  # noqa: E402

pytestmark = pytest.mark.slow

CARD = EMBEDDED / "stroke-impression-demo" / "model.toml"
SMALL = {"width": 48, "heads": 3, "decoder_layers": 1, "view_pixels": 16, "channels": 2}


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImpressionNetwork, Path]:
    """A network of another shape with random weights, exported."""
    torch.manual_seed(5)
    network = ImpressionNetwork(Shape(build_tokenizer().get_vocab_size(), 20, **SMALL)).eval()
    for parameter in network.parameters():
        # Far from the initial values, so that logits differ enough for an error to show.
        torch.nn.init.normal_(parameter, std=0.15)
    folder = tmp_path_factory.mktemp("other")
    report = export_network(network, folder)
    assert report["largest_difference"] <= TOLERANCE
    return network, folder


def test_graphs_equal_torch_at_sizes_that_were_not_traced(other: tuple[ImpressionNetwork, Path]) -> None:
    network, folder = other
    assert parity(network, folder, sizes=[(1, 4, 0), (4, 1, 31)]) <= TOLERANCE


def test_greedy_decoding_is_the_same_token_for_token(other: tuple[ImpressionNetwork, Path]) -> None:
    network, folder = other
    samples = [(torch.rand(1, 3, 2, 16, 16), torch.randint(100, (1, 20))) for _ in range(5)]
    assert identical_texts(network, folder, samples, starts=[2, 3], stop=1) == (10, 10)


def test_another_network_needs_only_a_card(other: tuple[ImpressionNetwork, Path]) -> None:
    folder = other[1]
    build_tokenizer().save(str(folder / "tokenizer.json"), pretty=False)
    text = CARD.read_text(encoding="utf-8")
    for before, after in (
        ('"stroke-impression-demo"', '"other"'),
        ('channels = ["dwi", "low_adc", "mask"]', 'channels = ["dwi", "mask"]'),
        ("size = 32", "size = 16"),
        ("layers = 2", "layers = 1"),
        ("heads = 4", "heads = 3"),
        ("head_size = 24", "head_size = 16"),
        ('"past.1.k", "past.1.v",', ""),
        ('"cross.1.k", "cross.1.v",', ""),
        (', "cross.1.k", "cross.1.v"', ""),
        (', "present.1.k", "present.1.v"', ""),
    ):
        assert before in text
        text = text.replace(before, after)
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("file = "):
            lines[number + 1] = f'sha256 = "{file_digest(folder / line.split(chr(34))[1])}"'
    (folder / "model.toml").write_text("\n".join(lines), encoding="utf-8")
    phantom = make_phantom(7, shape_zyx=(20, 64, 64), spacing_mm_zyx=(7.5, 3.6, 3.6), lesions=[])
    model = Model(folder, threads=1)
    try:
        written = model.write(nothing_found(), {"dwi": phantom.dwi, "adc": phantom.adc}, "en").impression
    except InferenceFailed as error:  # random weights need not end their text; every step of it has run
        assert "did not end" in str(error)
    else:
        assert isinstance(written, str)
