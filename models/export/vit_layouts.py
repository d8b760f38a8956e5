"""What the parameters of :mod:`models.export.vit_network` are called in published checkpoints."""

from __future__ import annotations

from models.export.renaming import Renaming

_WB = r"(weight|bias)"


def timm_vision(prefix: str, head: str = "") -> Renaming:
    """timm's ``VisionTransformer`` below ``prefix`` (huggingface/pytorch-image-models), projection at ``head``."""
    return Renaming(
        (
            (rf"patch_embed\.{_WB}", rf"{prefix}patch_embed.proj.\1"),
            (r"pool\.probe", f"{prefix}attn_pool.latent"),
            (rf"pool\.qkv\.{_WB}", rf"{prefix}attn_pool.{{q:1,kv:2}}.\1"),
            (rf"pool\.(proj|norm|mlp\.fc\d)\.{_WB}", rf"{prefix}attn_pool.\1.\2"),
            (r"head\.weight", f"{head}weight"),
            (r"(.*)", rf"{prefix}\1"),
        )
    )


def open_clip_vision(prefix: str = "visual.") -> Renaming:
    """open_clip's own ``VisionTransformer`` (mlfoundations/open_clip), the projection a matrix."""
    return Renaming(
        (
            (r"patch_embed\.weight", f"{prefix}conv1.weight"),
            (r"cls_token", f"{prefix}class_embedding^1"),
            (r"pos_embed", f"{prefix}positional_embedding^1"),
            (rf"norm_pre\.{_WB}", rf"{prefix}ln_pre.\1"),
            *_resblocks(f"{prefix}transformer."),
            (rf"norm\.{_WB}", rf"{prefix}ln_post.\1"),
            (r"head\.weight", f"{prefix}proj^T"),
        )
    )


def open_clip_text(prefix: str = "") -> Renaming:
    """open_clip's own text transformer, the projection a matrix."""
    return Renaming(
        (
            (r"token_embedding\.weight", f"{prefix}token_embedding.weight"),
            (r"pos_embed", f"{prefix}positional_embedding"),
            *_resblocks(f"{prefix}transformer."),
            (rf"norm\.{_WB}", rf"{prefix}ln_final.\1"),
            (r"head\.weight", f"{prefix}text_projection^T"),
        )
    )


def siglip_vision(prefix: str = "vision_model.") -> Renaming:
    """transformers' ``SiglipVisionModel`` (huggingface/transformers)."""
    return Renaming(
        (
            (rf"patch_embed\.{_WB}", rf"{prefix}embeddings.patch_embedding.\1"),
            (r"pos_embed", f"{prefix}embeddings.position_embedding.weight^1"),
            *_siglip_layers(prefix),
            (rf"norm\.{_WB}", rf"{prefix}post_layernorm.\1"),
            (r"pool\.probe", f"{prefix}head.probe"),
            (rf"pool\.qkv\.{_WB}", rf"{prefix}head.attention.in_proj_\1"),
            (rf"pool\.proj\.{_WB}", rf"{prefix}head.attention.out_proj.\1"),
            (rf"pool\.norm\.{_WB}", rf"{prefix}head.layernorm.\1"),
            (rf"pool\.mlp\.(fc\d)\.{_WB}", rf"{prefix}head.mlp.\1.\2"),
        )
    )


def siglip_text(prefix: str = "text_model.") -> Renaming:
    """transformers' ``SiglipTextModel``."""
    return Renaming(
        (
            (r"token_embedding\.weight", f"{prefix}embeddings.token_embedding.weight"),
            (r"pos_embed", f"{prefix}embeddings.position_embedding.weight"),
            *_siglip_layers(prefix),
            (rf"norm\.{_WB}", rf"{prefix}final_layer_norm.\1"),
            (rf"head\.{_WB}", rf"{prefix}head.\1"),
        )
    )


def _resblocks(prefix: str) -> tuple[tuple[str, str], ...]:
    block = r"blocks\.(\d+)"
    return (
        (rf"{block}\.norm(\d)\.{_WB}", rf"{prefix}resblocks.\1.ln_\2.\3"),
        (rf"{block}\.attn\.qkv\.{_WB}", rf"{prefix}resblocks.\1.attn.in_proj_\2"),
        (rf"{block}\.attn\.proj\.{_WB}", rf"{prefix}resblocks.\1.attn.out_proj.\2"),
        (rf"{block}\.mlp\.fc1\.{_WB}", rf"{prefix}resblocks.\1.mlp.c_fc.\2"),
        (rf"{block}\.mlp\.fc2\.{_WB}", rf"{prefix}resblocks.\1.mlp.c_proj.\2"),
    )


def _siglip_layers(prefix: str) -> tuple[tuple[str, str], ...]:
    block = r"blocks\.(\d+)"
    return (
        (rf"{block}\.norm(\d)\.{_WB}", rf"{prefix}encoder.layers.\1.layer_norm\2.\3"),
        (rf"{block}\.attn\.qkv\.{_WB}", rf"{prefix}encoder.layers.\1.self_attn.{{q_proj,k_proj,v_proj}}.\2"),
        (rf"{block}\.attn\.proj\.{_WB}", rf"{prefix}encoder.layers.\1.self_attn.out_proj.\2"),
        (rf"{block}\.mlp\.(fc\d)\.{_WB}", rf"{prefix}encoder.layers.\1.mlp.\2.\3"),
    )
