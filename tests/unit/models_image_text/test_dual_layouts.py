"""Networks have the keys of the released checkpoints at their real size, and compute what other implementations do."""

from __future__ import annotations

import math
import re

import pytest

torch = pytest.importorskip("torch", reason="conversion needs torch")
transformers = pytest.importorskip("transformers", reason="the comparison needs transformers")

from models.export.bert_network import BertShape  # noqa: E402
from models.export.checkpoint import Layout  # noqa: E402
from models.export.clinical_bert import ClassTokenText, NormedProjectedText, ProjectedText  # noqa: E402
from models.export.flair import Flair, FlairImage  # noqa: E402
from models.export.medclip import MedClip, _ResNetTower, _SwinTower  # noqa: E402
from models.export.renaming import Renaming  # noqa: E402
from models.export.swin_network import Swin, SwinShape  # noqa: E402
from models.export.vit_layouts import (  # noqa: E402
    open_clip_text,
    open_clip_vision,
    siglip_text,
    siglip_vision,
    timm_vision,
)
from models.export.vit_network import TextShape, TextTransformer, Vit, VitShape  # noqa: E402
from tests.unit.models_image_text.released import randomised  # noqa: E402

CLINICAL, PUBMED = BertShape(28996), BertShape(30522)
SO400M = VitShape(448, 14, 1152, 27, 16, 4304, 0, class_token=False, gelu="tanh")
SO400M_TEXT = TextShape(32000, 64, 1152, 27, 16, 4304, 1152, "last", "tanh", 1e-6, True)


def text_names(prefix: str) -> Renaming:
    return Renaming(((r"transformer\.(.*)", rf"{prefix}.transformer.\1"), (r"proj\.(.*)", rf"{prefix}.proj.\1")))


def real_size(system: str) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        if system.startswith("medclip"):
            swin = system == "medclip"
            image = _SwinTower(SwinShape(), 512) if swin else _ResNetTower((3, 4, 6, 3), 64, 512)
            return shapes(MedClip(image, ProjectedText(CLINICAL, 512)))
        if system == "flair":
            return shapes(Flair(FlairImage(), NormedProjectedText(CLINICAL, 512)))
        if system == "medsiglip":
            both = siglip_vision().shapes(Vit(SO400M)) | siglip_text().shapes(TextTransformer(SO400M_TEXT))
            return both | {"logit_scale": (1,), "logit_bias": (1,)}
        if system == "knobo":
            image = Vit(VitShape(224, 14, 1024, 24, 16, 4096, 768, patch_bias=False, pre_norm=True))
            words = TextTransformer(TextShape(49408, 77, 768, 12, 12, 3072, 768, "end", "exact"))
            return open_clip_vision().shapes(image) | open_clip_text().shapes(words) | {"logit_scale": ()}
        text = ClassTokenText(PUBMED, 512)
        if system == "biomedclip":
            vision = timm_vision("visual.trunk.", "visual.head.proj.").shapes(Vit(VitShape()))
            return vision | text_names("text").shapes(text) | {"logit_scale": ()}
        vision = open_clip_vision().shapes(Vit(VitShape(patch_bias=False, pre_norm=True)))
        return vision | text_names("text_encoder").shapes(text) | {"logit_scale": ()}


def shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


@pytest.mark.parametrize(
    ("system", "keys", "millions"),
    [
        ("medclip", 421, 136.6),
        ("medclip-resnet", 520, 133.3),
        ("flair", 520, 133.3),
        ("biomedclip", 351, 195.9),
        ("unimed-clip", 352, 195.9),
        ("medsiglip", 888, 878.3),
        ("knobo", 446, 427.6),
    ],
)
def test_the_released_layouts(system: str, keys: int, millions: float) -> None:
    layout = Layout.load(system)
    assert layout.shapes == real_size(system)
    assert len(layout.shapes) == keys
    assert sum(math.prod(shape) for shape in layout.shapes.values()) / 1e6 == pytest.approx(millions, abs=0.06)
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}:\S+", source) for source in layout.source.split())


def test_swin_equals_another_implementation() -> None:
    shape = SwinShape(size=112, width=24, depths=(2, 2), heads=(3, 6))
    ours = randomised(Swin(shape), 1)
    config = transformers.SwinConfig(image_size=112, embed_dim=24, depths=[2, 2], num_heads=[3, 6])
    theirs = transformers.SwinModel(config).eval()
    renamed = {}
    for key, value in ours.state_dict().items():
        key = key.replace("self.relative_position_bias_table", "relative_position_bias.relative_position_bias_table")
        key = re.sub(r"attention\.self\.(query|key|value)", lambda m: f"attention.{m[1][0]}_proj", key)
        key = key.replace("attention.output.dense", "attention.o_proj")
        renamed[key.replace("intermediate.dense", "mlp.fc1").replace("output.dense", "mlp.fc2")] = value
    missing, unexpected = theirs.load_state_dict(renamed, strict=False)
    assert (list(missing), list(unexpected)) == ([], [])
    images = torch.randn(2, 3, 112, 112)
    with torch.no_grad():
        made, other = ours(images), theirs(images)
    assert float(made.std()) > 0.1
    assert torch.allclose(made, other.last_hidden_state, atol=1e-4)
    assert torch.allclose(made.mean(1), other.pooler_output, atol=1e-4)


def test_siglip_equals_another_implementation() -> None:
    image = Vit(VitShape(32, 8, 24, 2, 3, 48, 0, class_token=False, gelu="tanh"))
    text = TextTransformer(TextShape(50, 10, 24, 2, 3, 48, 24, "last", "tanh", 1e-6, True))
    randomised(image, 2)
    randomised(text, 3)
    sizes = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3}
    config = transformers.SiglipConfig(
        text_config=sizes | {"vocab_size": 50, "max_position_embeddings": 10, "projection_size": 24},
        vision_config=sizes | {"image_size": 32, "patch_size": 8},
    )
    theirs = transformers.SiglipModel(config).eval()
    state = siglip_vision().published(image) | siglip_text().published(text)
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert (set(missing), list(unexpected)) == ({"logit_scale", "logit_bias"}, [])
    pixels, ids = torch.randn(2, 3, 32, 32), torch.randint(0, 50, (2, 10))
    with torch.no_grad():
        other = theirs(input_ids=ids, pixel_values=pixels)
        assert torch.allclose(torch.nn.functional.normalize(image(pixels)[0]), other.image_embeds, atol=1e-5)
        assert torch.allclose(torch.nn.functional.normalize(text(ids)), other.text_embeds, atol=1e-5)


@pytest.mark.parametrize("gelu", ["quick", "exact"])
def test_clip_equals_another_implementation(gelu: str) -> None:
    """open_clip's own towers are OpenAI's, which transformers has under other names."""
    image = Vit(VitShape(32, 8, 32, 2, 2, 48, 16, patch_bias=False, pre_norm=True, gelu=gelu, epsilon=1e-5))
    text = TextTransformer(TextShape(60, 12, 32, 2, 2, 48, 16, "end", gelu))
    randomised(image, 4)
    randomised(text, 5)
    act = {"quick": "quick_gelu", "exact": "gelu"}[gelu]
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    tokens = {"bos_token_id": 1, "pad_token_id": 0, "eos_token_id": 59}
    config = transformers.CLIPConfig(
        text_config=sizes | {"vocab_size": 60, "max_position_embeddings": 12, "hidden_act": act} | tokens,
        vision_config=sizes | {"image_size": 32, "patch_size": 8, "hidden_act": act},
        projection_dim=16,
    )
    theirs = transformers.CLIPModel(config).eval()
    layers = (
        (r"ln_1|ln_2", lambda m: f"layer_norm{m[0][-1]}"),
        (r"attn\.out_proj", "self_attn.out_proj"),
        (r"mlp\.c_fc", "mlp.fc1"),
        (r"mlp\.c_proj", "mlp.fc2"),
        (r"transformer\.resblocks", "encoder.layers"),
    )
    renamed = {}
    published = {
        "vision_model.": open_clip_vision("").published(image),
        "text_model.": open_clip_text("").published(text),
    }
    for prefix, state in published.items():
        for key, value in state.items():
            for pattern, name in layers:
                key = re.sub(pattern, name, key)
            if "in_proj" in key:
                for part, piece in zip("qkv", value.chunk(3), strict=True):
                    renamed[prefix + key.replace("attn.in_proj_", f"self_attn.{part}_proj.")] = piece
                continue
            key = prefix + key
            for ours, name in (
                ("vision_model.conv1", "vision_model.embeddings.patch_embedding"),
                ("vision_model.class_embedding", "vision_model.embeddings.class_embedding"),
                ("positional_embedding", "embeddings.position_embedding.weight"),
                ("token_embedding", "embeddings.token_embedding"),
                ("ln_pre", "pre_layrnorm"),
                ("ln_post", "post_layernorm"),
                ("ln_final", "final_layer_norm"),
                ("vision_model.proj", "visual_projection.weight"),
                ("text_model.text_projection", "text_projection.weight"),
            ):
                key = key.replace(ours, name)
            renamed[key] = value.t() if key.endswith("projection.weight") else value
    missing, unexpected = theirs.load_state_dict(renamed, strict=False)
    assert (set(missing), list(unexpected)) == ({"logit_scale"}, [])
    ids = torch.tensor([[1, 7, 8, 59, 0, 0, 0, 0, 0, 0, 0, 0], [1, 9, 5, 4, 33, 59, 0, 0, 0, 0, 0, 0]])
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        other = theirs(input_ids=ids, pixel_values=pixels, attention_mask=torch.ones_like(ids))
        assert torch.allclose(torch.nn.functional.normalize(image(pixels)[0]), other.image_embeds, atol=1e-5)
        assert torch.allclose(torch.nn.functional.normalize(text(ids)), other.text_embeds, atol=1e-5)


def test_timm_equals_another_implementation() -> None:
    """timm's plain ViT is Google's, which transformers has under other names."""
    ours = Vit(VitShape(32, 8, 32, 2, 2, 48, 16))
    randomised(ours, 6)
    config = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        image_size=32,
        patch_size=8,
        layer_norm_eps=1e-6,
    )
    theirs = transformers.ViTModel(config, add_pooling_layer=False).eval()
    state = timm_vision("", "head.").published(ours)
    head = state.pop("head.weight")
    renamed = {}
    for key, value in state.items():
        for mine, other in (
            (r"blocks\.(\d)", r"layers.\1"),
            (r"norm1", "layernorm_before"),
            (r"norm2", "layernorm_after"),
            (r"attn\.proj", "attention.o_proj"),
            (r"^patch_embed\.proj", "embeddings.patch_embeddings.projection"),
            (r"^cls_token", "embeddings.cls_token"),
            (r"^pos_embed", "embeddings.position_embeddings"),
            (r"^norm\.", "layernorm."),
        ):
            key = re.sub(mine, other, key)
        parts = zip("qkv", value.chunk(3), strict=True) if ".attn.qkv" in key else [("", value)]
        renamed |= {key.replace("attn.qkv", f"attention.{part}_proj"): piece for part, piece in parts}
    missing, unexpected = theirs.load_state_dict(renamed, strict=False)
    assert (list(missing), list(unexpected)) == ([], [])
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = theirs(pixel_values=pixels).last_hidden_state[:, 0] @ head.t()
        assert torch.allclose(ours(pixels)[0], expected, atol=1e-4)
