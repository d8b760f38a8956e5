"""MediCLIP's layout converts and equals torch, its CLIP equals another implementation, its training tool trains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.anomaly import AnomalyMapper
from models.errors import CheckpointMismatch, CheckpointUnsafe, TooFewImages
from models.model import Model
from models.volume import Volume

torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("onnxscript", reason="conversion needs onnxscript")
transformers = pytest.importorskip("transformers", reason="the other implementation of CLIP")

from tokenizers import Tokenizer  # noqa: E402
from tokenizers.models import WordLevel  # noqa: E402
from tokenizers.normalizers import Lowercase  # noqa: E402
from tokenizers.pre_tokenizers import Punctuation, Sequence, WhitespaceSplit  # noqa: E402
from tokenizers.processors import TemplateProcessing  # noqa: E402

from models.export.anomaly_synthesis import synthesised  # noqa: E402
from models.export.checkpoint import Layout, load_exactly  # noqa: E402
from models.export.clip_network import Clip, ClipShape, clip_shape_of  # noqa: E402
from models.export.mediclip import convert, read_clip  # noqa: E402
from models.export.mediclip_network import (  # noqa: E402
    PROMPTS,
    Adapters,
    MediClip,
    Prompts,
    anomaly_map,
    text_vectors,
)
from models.export.train_anomaly import dice_loss, focal_loss, network_input, read_normals, train  # noqa: E402

pytestmark = pytest.mark.slow
SMALL = ClipShape(56, 14, 64, 4, 64, 1, 20, 60, 32)


def small_clip() -> Clip:
    torch.manual_seed(5)
    clip = Clip(SMALL).eval()
    for value in clip.parameters():
        torch.nn.init.normal_(value, 0, 0.2 if value.ndim < 2 else 0.08)
    for module in clip.modules():
        if isinstance(module, torch.nn.LayerNorm):
            torch.nn.init.normal_(module.weight, 1, 0.1)
    return clip


def write_tokenizer(path: Path) -> None:
    """Whole words in place of byte pairs; start and end are the last two ids, as CLIP's are."""
    words = sorted({word for texts in PROMPTS.values() for text in texts for word in text.split()} | {"x", "."})
    vocabulary = {word: n for n, word in enumerate(["[unk]", *words])}
    vocabulary |= {"<start>": SMALL.vocabulary - 2, "<end>": SMALL.vocabulary - 1}
    made = Tokenizer(WordLevel(vocabulary, unk_token="[unk]"))
    made.normalizer, made.pre_tokenizer = Lowercase(), Sequence([WhitespaceSplit(), Punctuation()])
    made.post_processor = TemplateProcessing(
        single="<start> $A <end>", special_tokens=[(name, vocabulary[name]) for name in ("<start>", "<end>")]
    )
    made.save(str(path))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "mediclip"
    folder.mkdir()
    torch.save(small_clip().state_dict(), folder / "clip.pt")
    write_tokenizer(folder / "tokenizer.json")
    torch.manual_seed(6)
    state = {
        "adapter_state_dict": Adapters(SMALL.width, SMALL.embedding, 3).state_dict(),
        "prompt_state_dict": Prompts(SMALL.text_width).state_dict(),
    }
    torch.save(state, folder / "checkpoints.pkl")
    return folder


def test_the_released_layouts() -> None:
    with torch.device("meta"):
        clip, adapters, prompts = Clip(ClipShape()), Adapters(1024, 768, 3), Prompts(768)
    state = {**clip.state_dict(), **adapters.state_dict(), **prompts.state_dict()}
    layout = Layout.load("mediclip")
    assert {key: tuple(value.shape) for key, value in state.items()} == layout.shapes
    assert (len(clip.state_dict()), len(layout.shapes)) == (446, 454)
    assert clip_shape_of(clip.state_dict()) == ClipShape()


def test_the_vision_tower_equals_transformers() -> None:
    clip = small_clip()
    config = transformers.CLIPVisionConfig(
        hidden_size=64, intermediate_size=256, num_hidden_layers=4, num_attention_heads=1, image_size=56, patch_size=14
    )
    other = transformers.CLIPVisionModel(config).eval()
    mine, renamed = clip.visual.state_dict(), {}
    for key in other.state_dict():
        name = key.removeprefix("vision_model.")
        for old, new in (
            ("embeddings.class_embedding", "class_embedding"),
            ("embeddings.patch_embedding.weight", "conv1.weight"),
            ("embeddings.position_embedding.weight", "positional_embedding"),
            ("pre_layrnorm", "ln_pre"),
            ("post_layernorm", "ln_post"),
            ("encoder.layers", "transformer.resblocks"),
            ("self_attn.out_proj", "attn.out_proj"),
            ("layer_norm1", "ln_1"),
            ("layer_norm2", "ln_2"),
            ("mlp.fc1", "mlp.c_fc"),
            ("mlp.fc2", "mlp.c_proj"),
        ):
            name = name.replace(old, new)
        part = next((n for n, letter in enumerate("qkv") if f"self_attn.{letter}_proj" in name), None)
        if part is not None:
            stem, kind = name.split("self_attn.")[0], name.rsplit(".", 1)[1]
            renamed[key] = mine[f"{stem}attn.in_proj_{kind}"].chunk(3)[part]
        elif name in mine:
            renamed[key] = mine[name]
    missing, unexpected = other.load_state_dict(renamed, strict=False)
    assert not unexpected
    assert all("position_ids" in key for key in missing)
    image = torch.randn(2, 3, 56, 56)
    with torch.no_grad():
        states = other(image, output_hidden_states=True).hidden_states
        made = clip.visual(image, (2, 3, 4))
    for number, tokens in zip((2, 3, 4), made, strict=True):
        assert torch.allclose(tokens, states[number], atol=1e-4)


def test_the_folder_runs_as_a_model(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    imported = convert(source, out)
    report = imported.report()
    print("relative differences between torch and ONNX Runtime:", report["graphs"])
    differences = report["graphs"]["main.onnx"]["relative_differences"]
    assert (report["missing"], report["unexpected"], len(differences)) == (0, 0, 3)
    assert max(differences) < 1e-4
    model = Model(out)
    model.self_test()
    rng = np.random.default_rng(0)
    array = rng.uniform(50, 900, (4, 80, 70)).astype(np.float32)
    array[0] = 0
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    result = model.run({"image": Volume(array, affine)}, {})
    heat = result.heat_maps[0].values_zyx
    assert heat.shape == array.shape
    assert not heat[0].any()
    assert 0 <= heat.min() <= heat.max() <= 1
    assert result.findings[0].probability == pytest.approx(result.evidence["score"], abs=1e-4)
    assert result.evidence["slices_seen"] == 3
    # The same slice by the original's own steps: grey levels, PIL's stretch, CLIP's scale, torch.
    low, high = np.percentile(array[array > 0], [0.5, 99.5])
    grey = (np.clip(array[2], low, high) - low) / (high - low) * 255
    small = np.asarray(Image.fromarray(grey.astype(np.uint8).astype(np.float32), mode="F").resize((56, 56), 2)) / 255
    mean, spread = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    image = ((small[None] - mean[:, None, None]) / spread[:, None, None]).astype(np.float32)
    clip, _ = read_clip(source)
    trained = torch.load(source / "checkpoints.pkl", weights_only=True)
    adapters, prompts = Adapters(SMALL.width, SMALL.embedding, 3), Prompts(SMALL.text_width)
    adapters.load_state_dict(trained["adapter_state_dict"])
    prompts.load_state_dict(trained["prompt_state_dict"])
    with torch.no_grad():
        text = text_vectors(clip, prompts, Tokenizer.from_file(str(source / "tokenizer.json")))
        expected = MediClip(clip, adapters, text, (2, 3, 4), 56)(torch.from_numpy(image)[None])[0].numpy()
    _, scores = AnomalyMapper(model).maps(Volume(array, affine))
    assert scores[0] == -1
    assert scores[2] == pytest.approx(expected.max(), abs=1e-3)


def normals(folder: Path, count: int) -> Path:
    """Smooth pictures that are much alike."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    y, x = np.indices((60, 60))
    for n in range(count):
        disc = 120 * (np.hypot(y - 30, x - 30) < 24 + rng.normal(0, 1)) + rng.normal(20, 4, y.shape)
        Image.fromarray(np.clip(disc, 0, 255).astype(np.uint8)).save(folder / f"{n}.png")
    return folder


def loss_on_fresh(source: Path, images: list[np.ndarray]) -> float:
    """Loss of what lies in the folder on anomalies it was not trained on."""
    rng = np.random.default_rng(99)
    made = [synthesised(images[n % len(images)], images[0], rng) for n in range(32)]
    truth = torch.from_numpy(np.stack([mask for _, mask in made]).astype(np.float32))
    clip, _ = read_clip(source)
    trained = torch.load(source / "checkpoints.pkl", weights_only=True)
    adapters, prompts = Adapters(SMALL.width, SMALL.embedding, 3), Prompts(SMALL.text_width)
    load_exactly(adapters, trained["adapter_state_dict"])
    load_exactly(prompts, trained["prompt_state_dict"])
    with torch.no_grad():
        text = text_vectors(clip, prompts, Tokenizer.from_file(str(source / "tokenizer.json")))
        tokens = clip.visual(network_input(np.stack([image for image, _ in made])), (2, 3, 4))
        likely = anomaly_map(adapters(tokens), text, SMALL.size)
        return float(focal_loss(likely, truth) + dice_loss(likely[:, 1], truth))


def test_training_on_normal_images_learns(tmp_path: Path, source: Path) -> None:
    images = read_normals(normals(tmp_path / "normals", 4), SMALL.size)
    before = loss_on_fresh(source, images)
    log = train(source, images, source, epochs=16, seed=1)
    assert len(log) == 16
    assert loss_on_fresh(source, images) < 0.97 * before
    with pytest.raises(TooFewImages, match="1 PNG"):
        read_normals(normals(tmp_path / "one", 1), SMALL.size)


def test_losses_are_smallest_at_the_truth() -> None:
    truth = (torch.rand(2, 8, 8) > 0.7).float()
    right = torch.stack([1 - truth, truth], 1).clamp(1e-4, 1 - 1e-4)
    assert focal_loss(right, truth) < 1e-3 < focal_loss(1 - right, truth)
    assert dice_loss(truth, truth) < 1e-6 < dice_loss(1 - truth, truth)


def test_other_files_are_refused(tmp_path: Path, source: Path) -> None:
    (source / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointMismatch, match="tokenizer"):
        convert(source, tmp_path)
    write_tokenizer(source / "tokenizer.json")
    torch.save({"adapter_state_dict": {}, "optimiser": {}}, source / "checkpoints.pkl")
    with pytest.raises(CheckpointMismatch, match="nothing else"):
        convert(source, tmp_path)
    torch.save(small_clip(), source / "checkpoints.pkl")
    with pytest.raises(CheckpointUnsafe):
        convert(source, tmp_path)
    (source / "clip.pt").unlink()
    with pytest.raises(CheckpointMismatch, match="clip"):
        convert(source, tmp_path)
