"""R2Gen and R2GenCMN written down once more, plainly: over the released file's tensors, whole sequences, without a cache.

Decoding is that of the repositories (cuhksz-nlp/R2Gen@177bf3c: modules/att_model.py, modules/caption_model.py): the likeliest
word, or beams whose ended ones keep their place for a step and go on 1000 lower.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from models.export.r2gen_network import ReportGenerator, ReportShape

SMALL = {"width": 24, "layers": 2, "heads": 4, "hidden": 20, "places": 60, "blocks": (1, 1, 1, 1), "first": 4}
R2GEN = ReportShape(vocabulary=30, slots=3, memory_heads=2, **SMALL)
CMN = ReportShape(vocabulary=30, slots=0, rows=40, best=5, **SMALL)


def released_tensors(shape: ReportShape, seed: int) -> dict[str, Tensor]:
    """A small file of the released layout with weights far enough from their start that words vary."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for key, value in ReportGenerator(shape).state_dict().items():
        if key.endswith(".pe"):
            made[key] = sines(value.shape[1], value.shape[2])[None]
        elif key.endswith("running_var"):
            made[key] = torch.rand(value.shape, generator=generator) + 0.5
        elif value.dtype.is_floating_point:
            scale = key.endswith(("gamma", "a_2")) or (".bn" in key and key.endswith("weight"))
            spread = 0.6 if "logit" in key or "lut" in key else 0.3
            made[key] = torch.randn(value.shape, generator=generator) * spread + (1.0 if scale else 0.0)
        else:
            made[key] = value
    for key in [key for key in made if ".model.cmn." in key]:
        made[key.replace(".model.cmn.", ".cmn.")] = made[key]
    return made


def sines(places: int, width: int) -> Tensor:
    """Sine and cosine in turn, wave lengths from 2π to 20000π."""
    made = torch.zeros(places, width)
    for place in range(places):
        for pair in range(0, width, 2):
            angle = place / 10000 ** (pair / width)
            made[place, pair], made[place, pair + 1] = math.sin(angle), math.cos(angle)
    return made


class Reference:
    """One released file."""

    def __init__(self, tensors: dict[str, Tensor], shape: ReportShape) -> None:
        self.t, self.shape = tensors, shape

    def linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.t[f"{name}.weight"], self.t[f"{name}.bias"])

    def conv(self, x: Tensor, name: str, norm: str, stride: int = 1, pad: int = 0) -> Tensor:
        x = F.conv2d(x, self.t[f"{name}.weight"], None, stride, pad)
        stats = (self.t[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *stats)

    def seen(self, pixels: Tensor) -> Tensor:
        top = "visual_extractor.model"
        x = F.max_pool2d(self.conv(pixels, f"{top}.0", f"{top}.1", 2, 3).relu(), 3, 2, 1)
        for stage in range(4, 8):
            block, stride = f"{top}.{stage}.0", 1 if stage == 4 else 2
            short = self.conv(x, f"{block}.downsample.0", f"{block}.downsample.1", stride)
            x = self.conv(x, f"{block}.conv1", f"{block}.bn1").relu()
            x = self.conv(x, f"{block}.conv2", f"{block}.bn2", stride, 1).relu()
            x = (self.conv(x, f"{block}.conv3", f"{block}.bn3") + short).relu()
        return x.flatten(2).transpose(1, 2)

    def attention(self, query: Tensor, key: Tensor, name: str, heads: int, mask: Tensor | None = None) -> Tensor:
        parts = [self.linear(x, f"{name}.linears.{n}") for n, x in enumerate((query, key, key))]
        q, k, v = (x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(1, 2) for x in parts)
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
        if mask is not None:
            scores = scores.masked_fill(~mask, -1e9)
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(query.shape)
        return self.linear(mixed, f"{name}.linears.3")

    def answers(self, x: Tensor) -> Tensor:
        """For each token and head the best rows, one after the other."""
        name, heads, matrix = "encoder_decoder.cmn", self.shape.heads, self.t["encoder_decoder.memory_matrix"]
        q, k, v = (self.linear(part, f"{name}.linears.{n}") for n, part in enumerate((x[0], matrix, matrix)))
        size = q.shape[-1] // heads
        made = torch.zeros_like(q)
        for head in range(heads):
            cut = slice(head * size, (head + 1) * size)
            for token in range(len(q)):
                scores = k[:, cut] @ q[token, cut] / math.sqrt(size)
                best = scores.argsort(descending=True)[: self.shape.best]
                made[token, cut] = scores[best].softmax(0) @ v[best][:, cut]
        return self.linear(made, f"{name}.linears.3")[None]

    def norm(self, x: Tensor, name: str, memory: Tensor | None = None) -> Tensor:
        scale, shift = (self.t[f"{name}.{part}"] for part in self.shape.norm_names)
        if f"{name}.mlp_gamma.0.weight" in self.t:
            scale, shift = (
                base + self.linear(self.linear(memory, f"{name}.{mlp}.0").relu(), f"{name}.{mlp}.2")
                for base, mlp in ((scale, "mlp_gamma"), (shift, "mlp_beta"))
            )
        return scale * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6) + shift

    def read(self, pixels: Tensor) -> Tensor:
        x = self.linear(self.seen(pixels), "encoder_decoder.att_embed.0").relu()
        if self.shape.rows:
            x = x + self.answers(x)
            x = x + self.t["encoder_decoder.model.src_embed.0.pe"][:, : x.shape[1]]
        for n in range(self.shape.layers):
            name = f"encoder_decoder.model.encoder.layers.{n}"
            y = self.norm(x, f"{name}.sublayer.0.norm")
            x = x + self.attention(y, y, f"{name}.self_attn", self.shape.heads)
            x = x + self.wide(self.norm(x, f"{name}.sublayer.1.norm"), name)
        return self.norm(x, "encoder_decoder.model.encoder.norm")

    def wide(self, x: Tensor, name: str) -> Tensor:
        return self.linear(self.linear(x, f"{name}.feed_forward.w_1").relu(), f"{name}.feed_forward.w_2")

    def memories(self, words: Tensor) -> Tensor:
        """The relational memory after each word: (1, words, slots × width)."""
        name, slots, width = "encoder_decoder.model.rm", self.shape.slots, self.shape.width
        memory, made = torch.eye(slots, width)[None], []
        for n in range(words.shape[1]):
            word = words[:, n : n + 1]
            new = memory + self.attention(memory, torch.cat([memory, word], 1), f"{name}.attn", self.shape.memory_heads)
            new = new + self.linear(self.linear(new, f"{name}.mlp.0").relu(), f"{name}.mlp.2").relu()
            gates = self.linear(word, f"{name}.W") + self.linear(memory.tanh(), f"{name}.U")
            take, keep = gates[..., :width].sigmoid(), gates[..., width:].sigmoid()
            memory = take * new.tanh() + keep * memory
            made.append(memory.reshape(1, -1))
        return torch.stack(made, 1)

    def logits(self, ids: list[int], image: Tensor) -> Tensor:
        """Of the word after ``ids``."""
        top = "encoder_decoder.model"
        x = self.t[f"{top}.tgt_embed.0.lut.weight"][ids][None] * math.sqrt(self.shape.width)
        x = x + self.t[f"{top}.tgt_embed.1.pe"][:, : len(ids)]
        memory = None
        if self.shape.rows:
            x = x + self.answers(x)
        else:
            memory = self.memories(x)
        mask = torch.ones(len(ids), len(ids), dtype=torch.bool).tril()
        for n in range(self.shape.layers):
            name = f"{top}.decoder.layers.{n}"
            y = self.norm(x, f"{name}.sublayer.0.norm", memory)
            x = x + self.attention(y, y, f"{name}.self_attn", self.shape.heads, mask)
            y = self.norm(x, f"{name}.sublayer.1.norm", memory)
            x = x + self.attention(y, image, f"{name}.src_attn", self.shape.heads)
            x = x + self.wide(self.norm(x, f"{name}.sublayer.2.norm", memory), name)
        return self.linear(self.norm(x, f"{top}.decoder.norm")[0, -1], "encoder_decoder.logit")

    @torch.no_grad()
    def greedy(self, pixels: Tensor, longest: int) -> list[int]:
        image, ids = self.read(pixels), [0]
        while len(ids) <= longest:
            ids.append(int(self.logits(ids, image).argmax()))
            if ids[-1] == 0:
                break
        return ended(ids[1:])

    @torch.no_grad()
    def beams(self, pixels: Tensor, longest: int, count: int) -> list[int]:
        image = self.read(pixels)
        return ended(captions(lambda ids: self.logits(ids, image).log_softmax(-1), longest, count))


def captions(likely: Callable[[list[int]], Tensor], longest: int, count: int) -> list[int]:
    """The best sequence of the captioners' beam search; ``likely``: log-probabilities after a sequence with its start."""
    running: list[tuple[list[int], Tensor]] = [([], torch.zeros(()))]
    done: list[tuple[float, list[int]]] = []
    for step in range(longest):
        sums = torch.stack([total + likely([0, *ids]) for ids, total in running])
        best, places = sums.flatten().sort(descending=True)
        rows = [divmod(int(place), sums.shape[1]) for place in places[:count]]
        following = []
        for (row, word), total in zip(rows, best[:count], strict=True):
            ids = [*running[row][0], word]
            if word == 0 or step == longest - 1:
                done.append((float(total), ids))
                total = total - 1000
            following.append((ids, total))
        running = following
    return max(done, key=lambda each: each[0])[1]


def ended(ids: list[int]) -> list[int]:
    return ids[: ids.index(0)] if 0 in ids else ids
