"""CLIPSeg in Hugging Face's layout converts with its prompt baked in, equals torch, and labels whole stretched slices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.dense.segmenter import DenseSegmenter
from models.errors import CheckpointMismatch
from models.model import Model
from models.volume import Volume

torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("onnxscript", reason="conversion needs onnxscript")
transformers = pytest.importorskip("transformers", reason="conversion needs transformers")

from safetensors.torch import load_file, save_file  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402
from tokenizers.models import WordLevel  # noqa: E402
from tokenizers.pre_tokenizers import WhitespaceSplit  # noqa: E402
from tokenizers.processors import TemplateProcessing  # noqa: E402

from models.export.checkpoint import Layout  # noqa: E402
from models.export.clipseg import ClipSegPrompts, convert, prompt_vectors, prompts, read_model  # noqa: E402

pytestmark = pytest.mark.slow
SIZE = 64


def config() -> Any:
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"vocab_size": 10, "max_position_embeddings": 8, "bos_token_id": 8, "eos_token_id": 9}
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": SIZE // 2, "patch_size": 16}
    more = {"extract_layers": [0, 1], "reduce_dim": 16, "decoder_num_attention_heads": 2, "projection_dim": 32}
    more |= {"decoder_intermediate_size": 32, "use_complex_transposed_convolution": True}
    return transformers.CLIPSegConfig(text_config=text, vision_config=vision, **more)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    model = transformers.CLIPSegForImageSegmentation(config())
    for value in model.parameters():
        torch.nn.init.normal_(value, 0.02, 0.12)
    model.save_pretrained(tmp_path / "clipseg")
    words = {word: n for n, word in enumerate(["[unk]", *" ".join(prompts()).split()])} | {"<s>": 8, "</s>": 9}
    made = Tokenizer(WordLevel(words, unk_token="[unk]"))
    made.pre_tokenizer = WhitespaceSplit()
    made.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 8), ("</s>", 9)])
    made.save(str(tmp_path / "clipseg" / "tokenizer.json"))
    size = {"size": {"height": SIZE, "width": SIZE}}
    (tmp_path / "clipseg" / "preprocessor_config.json").write_text(json.dumps(size))
    return tmp_path / "clipseg"


def test_the_released_layout() -> None:
    layout = Layout.load("clipseg")
    with torch.device("meta"):
        released = transformers.CLIPSegConfig(use_complex_transposed_convolution=True)
        state = transformers.CLIPSegForImageSegmentation(released).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == layout.shapes


def test_the_prompt_is_baked_in(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    imported = convert(source, out)
    report = imported.report()
    print("relative differences between torch and ONNX Runtime:", report["graphs"])
    differences = report["graphs"]["main.onnx"]["relative_differences"]
    assert (report["missing"], report["unexpected"], len(differences)) == (0, 0, 2)
    assert max(differences) < 1e-4
    model = Model(out)
    model.self_test()
    array = np.random.default_rng(0).uniform(100, 900, (2, SIZE, SIZE)).astype(np.float32)
    labels = DenseSegmenter(model).labels({"image": Volume(array, np.eye(4))})
    low, high = np.percentile(array, [0.5, 99.5])
    grey = ((np.clip(array, low, high) - low) / (high - low) * 255).astype(np.uint8) / 255
    mean, spread = (np.array(each)[:, None, None] for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    network, _ = read_model(source)
    with torch.no_grad():
        tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
        wrapped = ClipSegPrompts(network, prompt_vectors(network, prompts(), tokenizer))
        logits = [wrapped(torch.from_numpy(((g[None] - mean) / spread).astype(np.float32))[None])[0, 0] for g in grey]
    expected = np.stack([each.numpy() for each in logits]) > 0
    assert ((labels > 0) == expected).mean() > 0.995
    assert 0 < expected.mean() < 1
    # Other slices are stretched to the network's size, and the labels back.
    wide = Volume(np.repeat(np.repeat(array, 2, 1), 3, 2), np.eye(4))
    assert DenseSegmenter(model).labels({"image": wide}).shape == (2, 2 * SIZE, 3 * SIZE)


def test_a_key_too_few_is_refused(tmp_path: Path, source: Path) -> None:
    file = source / "model.safetensors"
    tensors = load_file(file)
    del tensors["decoder.film_add.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointMismatch, match="film_add"):
        convert(source, tmp_path)
    (source / "config.json").write_text(json.dumps({"model_type": "bert"}))
    file.unlink()
    with pytest.raises(CheckpointMismatch, match="safetensors"):
        convert(source, tmp_path)
