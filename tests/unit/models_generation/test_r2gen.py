"""R2Gen and R2GenCMN convert from files of the released layout, and write the words of their own decoding."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.errors import CheckpointMismatch, CheckpointUnsafe
from models.generation.limits import Limits
from models.generation.strategies import Strategy, write
from models.generation.wiring import CacheShape, EncoderDecoder
from models.model import Model
from models.results import Outcome
from models.volume import Volume

torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("onnxscript", reason="conversion needs onnxscript")

from models.export.checkpoint import Layout  # noqa: E402
from models.export.r2gen import convert_as, shape_of  # noqa: E402
from models.export.r2gen_network import ReportGenerator, ReportShape  # noqa: E402
from tests.unit.models_generation.r2gen_reference import CMN, R2GEN, Reference, captions, released_tensors  # noqa: E402

SHAPES = {"r2gen": R2GEN, "r2gen-cmn": CMN}
SETTINGS = {"num_heads": 4, "rm_num_heads": 2, "topk": 5, "max_seq_length": 14, "dataset_name": "mimic_cxr"}
SEEDS = {"r2gen": {64: 32, 96: 29}, "r2gen-cmn": {64: 39, 96: 32}}
"""Of weights whose texts are of several words and end by themselves, some of them."""
WORDS = sorted([".", "<unk>", *(f"word{n}" for n in range(27))])


def write_release(folder: Path, system: str, seed: int = 0) -> dict[str, Any]:
    tensors = released_tensors(SHAPES[system], seed)
    # As the training writes it: with its optimiser's state, its best score and its epoch.
    wrapped = {"epoch": 3, "state_dict": tensors, "optimizer": {"lr": 1e-4}, "monitor_best": np.float64(0.1)}
    torch.save(wrapped, folder / "model_mimic_cxr.pth")
    (folder / "config.json").write_text(json.dumps(SETTINGS))
    (folder / "vocabulary.json").write_text(json.dumps({"images": 1, "words": WORDS}))
    return tensors


class Conversion:
    """A file, what is computed from it plainly, and the model made of it."""

    def __init__(self, system: str, size: int, source: Path, out: Path) -> None:
        torch.set_num_threads(1)
        self.system, self.size, self.source, self.shape = system, size, source, SHAPES[system]
        self.reference = Reference(write_release(source, system, SEEDS[system][size]), self.shape)
        report = convert_as(system, source, out, size=size).report()
        assert (report["missing"], report["unexpected"]) == (0, 0)
        self.differences = [each for g in report["graphs"].values() for each in g["relative_differences"]]
        self.model = Model(out, threads=1)

    def words(self, pixels: Any, longest: int, strategy: Strategy) -> list[int]:
        shape = self.shape
        features = self.model.session("encoder").run({"pixel_values": pixels.numpy()})
        cache = CacheShape(shape.layers, shape.heads, shape.width // shape.heads)
        reader = EncoderDecoder(self.model.session("decoder"), features, cache, [0])
        return list(write(reader, strategy, Limits(longest, (0,))).tokens)


@pytest.fixture(scope="module", params=[("r2gen", 64), ("r2gen", 96), ("r2gen-cmn", 64), ("r2gen-cmn", 96)], ids=str)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    system, size = request.param
    return Conversion(system, size, tmp_path_factory.mktemp("in"), tmp_path_factory.mktemp("out"))


@pytest.mark.slow
def test_the_words_are_those_of_the_original_decoding(made: Conversion) -> None:
    distinct, lengths, differing = set(), set(), 0
    for seed in range(2):
        pixels = torch.randn(1, 3, made.size, made.size, generator=torch.Generator().manual_seed(seed))
        for longest in (6, 14):
            greedy = made.reference.greedy(pixels, longest)
            assert made.words(pixels, longest, Strategy()) == greedy
            for count in (2, 3):
                expected = made.reference.beams(pixels, longest, count)
                assert made.words(pixels, longest, Strategy(kind="beams", beams=count, ended="kept")) == expected
                differing += expected != greedy
                distinct.update(expected)
                lengths.add(len(expected))
    assert len(distinct) >= 5 and differing > 0
    assert max(made.differences) < 1e-4
    print(made.system, made.size, sorted(lengths), max(made.differences))


@pytest.mark.slow
def test_a_radiograph_becomes_a_draft(made: Conversion) -> None:
    made.model.verify()
    assert max(made.model.self_test().values()) < 1e-4
    values = np.random.default_rng(1).integers(0, 4096, (1, 120, 90)).astype(np.float32)
    result = made.model.run({"image": Volume(values, np.eye(4), facts={"maximum_value": 4095})}, {})
    assert result.outcome is Outcome.FOUND
    (own,) = result.drafts
    grey = torch.from_numpy((values[0] - values.min()) / (values.max() - values.min()) * 255)
    picture = np.asarray(_stretched(grey.round().numpy().astype(np.uint8), made.size), np.float32) / 255
    mean, std = (np.array(each, np.float32)[:, None, None] for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    pixels = torch.from_numpy((np.repeat(picture[None], 3, 0) - mean) / std)[None]
    expected = [WORDS[n - 1] for n in made.reference.beams(pixels, 14, 3)]
    assert own.findings.replace(" […]", "").split() == " ".join(expected).replace(" .", ".").split()


def _stretched(grey: np.ndarray, size: int) -> Any:
    from PIL import Image

    return Image.fromarray(grey).resize((size, size), Image.Resampling.BILINEAR)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_ended_beams_keep_their_place_as_captioners_have_it(seed: int, count: int) -> None:
    """A chain of words with random chances, in which many beams end, and some at once."""
    chances = (torch.randn(7, 7, generator=torch.Generator().manual_seed(seed)) * 1.5).log_softmax(-1)
    chances[:, 0] += 0.7

    class Chain:
        prompt = (0,)

        def start(self) -> np.ndarray:
            return chances[:1].numpy()

        def step(self, tokens: list[int]) -> np.ndarray:
            return chances[list(tokens)].numpy()

        def keep(self, rows: list[int]) -> None:
            """The last word is all there is."""

    for longest in (1, 3, 9):
        found = write(Chain(), Strategy(kind="beams", beams=count, ended="kept"), Limits(longest, (0,)))
        expected = captions(lambda ids: chances[ids[-1]].log_softmax(-1), longest, count)
        assert list(found.tokens) == (expected[:-1] if expected[-1] == 0 else expected)


@pytest.mark.parametrize(("system", "keys", "millions"), [("r2gen", 848, 84.8), ("r2gen-cmn", 778, 69.0)])
def test_the_real_size_has_the_released_keys(system: str, keys: int, millions: float) -> None:
    layout = Layout.load(system)
    with torch.device("meta"):
        network = ReportGenerator(ReportShape() if system == "r2gen" else ReportShape(slots=0, rows=2048))
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == layout.shapes
    assert len(layout.shapes) == keys
    assert sum(math.prod(shape) for shape in layout.shapes.values()) / 1e6 == pytest.approx(millions, abs=0.06)
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}:\S+", source) for source in layout.source.split())
    tensors = {key: torch.empty(shape, device="meta") for key, shape in layout.shapes.items()}
    assert shape_of(tensors, {}, system) == network.shape


@pytest.mark.parametrize("system", ["r2gen", "r2gen-cmn"])
@pytest.mark.parametrize("change", ["missing", "unexpected", "another shape", "the other"])
def test_other_layouts_are_refused(tmp_path: Path, system: str, change: str) -> None:
    tensors = write_release(tmp_path, system)
    key = "encoder_decoder.model.encoder.layers.1.self_attn.linears.2.weight"
    if change == "missing":
        del tensors[key]
    elif change == "unexpected":
        tensors["another_head.weight"] = torch.zeros(2)
    elif change == "another shape":
        tensors[key] = torch.zeros(3)
    torch.save({"state_dict": tensors}, tmp_path / "model_mimic_cxr.pth")
    other = {"r2gen": "r2gen-cmn", "r2gen-cmn": "r2gen"}[system]
    named = f"import it as {system}" if change == "the other" else "another_head|" + re.escape(key)
    with pytest.raises(CheckpointMismatch, match=named):
        convert_as(other if change == "the other" else system, tmp_path, tmp_path)
    assert not list(tmp_path.glob("*.onnx"))


def test_what_is_no_tensor_is_refused(tmp_path: Path) -> None:
    write_release(tmp_path, "r2gen")
    torch.save({"state_dict": {"a": Path("x")}}, tmp_path / "model_mimic_cxr.pth")
    with pytest.raises(CheckpointUnsafe):
        convert_as("r2gen", tmp_path, tmp_path)
    (tmp_path / "another.pt").write_bytes(b"")
    with pytest.raises(CheckpointMismatch, match="2 files of weights"):
        convert_as("r2gen", tmp_path, tmp_path)
