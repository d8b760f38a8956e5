"""Two kinds of text model as one: tokens in, logits out, with the key/value cache held between the steps.

Names carry the wiring. What an encoder gives out under ``cross.*`` goes to the decoder's inputs of the same name at every
step; ``present.*`` of one step are ``past.*`` of the next and stay where they were computed. What an encoder gives out under
``past.*`` is where a decoder that remembers more than keys and values begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from models.generation.masks import causal_mask

Arrays = dict[str, npt.NDArray[Any]]
Logits = npt.NDArray[np.float32]


class Graph(Protocol):
    """A loaded graph; :class:`models.session.Session` is one."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def run(self, feeds: Arrays) -> Mapping[str, npt.NDArray[Any]]:
        """All outputs by name."""
        ...

    def step(
        self, feeds: Mapping[str, npt.NDArray[Any]], held: Mapping[str, Any], read: Sequence[str]
    ) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Outputs that are read as arrays, the others held."""
        ...

    def hold(self, array: npt.NDArray[Any]) -> Any:
        """An array as a held value."""
        ...


class TokenModel(Protocol):
    """What a decoding strategy drives.

    Attributes
    ----------
    prompt : tuple of int
        Tokens that stand before the first one made, as penalties on repetition see them.
    """

    prompt: tuple[int, ...]

    def start(self) -> Logits:
        """Logits (1, vocabulary) of the first token."""
        ...

    def step(self, tokens: Sequence[int]) -> Logits:
        """Take one token for each row, and give the logits (rows, vocabulary) of the next."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows of the cache, in this order; a row may be taken more than once."""
        ...


@dataclass(frozen=True, slots=True)
class CacheShape:
    """Decoder layers, heads of keys and values, and size of a head."""

    layers: int
    heads: int
    head_size: int

    def empty(self) -> Arrays:
        """The cache of no tokens for one study."""
        names = (f"past.{layer}.{part}" for layer in range(self.layers) for part in ("k", "v"))
        return {name: np.zeros((1, self.heads, 0, self.head_size), dtype=np.float32) for name in names}


class _Cached:
    """A decoder and its cache."""

    def __init__(self, decoder: Graph, cache: CacheShape) -> None:
        self._decoder = decoder
        self._past = {name: decoder.hold(array) for name, array in cache.empty().items()}
        self._length = 0

    def keep(self, rows: Sequence[int]) -> None:
        """See :class:`TokenModel`."""
        if list(rows) == [0] and self._rows == 1:
            return
        wanted = list(rows)
        if wanted == list(range(self._rows)):
            return
        self._past = {name: self._decoder.hold(value.numpy()[wanted]) for name, value in self._past.items()}

    @property
    def _rows(self) -> int:
        return int(next(iter(self._past.values())).shape()[0])

    def _advance(self, feeds: Arrays, constant: Mapping[str, Any], length: int) -> Logits:
        read, held = self._decoder.step(feeds, {**self._past, **constant}, ["logits"])
        self._past = {f"past.{n.removeprefix('present.')}": v for n, v in held.items() if n.startswith("present.")}
        self._length += length
        return read["logits"][:, -1]


class EncoderDecoder(_Cached):
    """Encoder once, then a decoder that takes ``input_ids`` and ``position_ids`` (int64; rows, steps).

    Parameters
    ----------
    features : mapping
        What the encoder gave; only ``cross.*`` and ``past.*`` are used. One study.
    prompt : sequence of int
        Tokens the decoder begins with.
    """

    def __init__(
        self,
        decoder: Graph,
        features: Mapping[str, npt.NDArray[Any]],
        cache: CacheShape,
        prompt: Sequence[int],
    ) -> None:
        super().__init__(decoder, cache)
        self.prompt = tuple(prompt)
        self._cross = {name: decoder.hold(array) for name, array in features.items() if name.startswith("cross.")}
        self._past |= {name: decoder.hold(array) for name, array in features.items() if name.startswith("past.")}

    def start(self) -> Logits:
        """See :class:`TokenModel`."""
        return self._feed(np.array([self.prompt], dtype=np.int64))

    def step(self, tokens: Sequence[int]) -> Logits:
        """See :class:`TokenModel`."""
        return self._feed(np.array(tokens, dtype=np.int64)[:, None])

    def _feed(self, ids: npt.NDArray[np.int64]) -> Logits:
        places = np.arange(self._length, self._length + ids.shape[1], dtype=np.int64)
        feeds: Arrays = {"input_ids": ids}
        if "position_ids" in self._decoder.inputs:
            feeds["position_ids"] = np.ascontiguousarray(np.broadcast_to(places, ids.shape))
        return self._advance(feeds, self._cross, ids.shape[1])


@dataclass(frozen=True, slots=True)
class EmbeddedPrompt:
    """A prompt with images in it, ready for a decoder.

    Attributes
    ----------
    ids : tuple of int
    embeds : numpy.ndarray
        float32 (1, tokens, width); image features stand where the image tokens are.
    positions : numpy.ndarray
        int64 (1, tokens), or (3, 1, tokens) for time, row and column.
    next_position : int
        Of the first token made.
    images : numpy.ndarray or None
        For each token the number of the image it belongs to, 0 for none, where tokens of one image see each other.
    """

    ids: tuple[int, ...]
    embeds: npt.NDArray[np.float32]
    positions: npt.NDArray[np.int64]
    next_position: int
    images: npt.NDArray[np.int64] | None = None


class DecoderOnly(_Cached):
    """A decoder that takes ``inputs_embeds``, ``position_ids``, ``mask`` and, where it has windows, ``mask_sliding``.

    One whose attention is causal by itself takes ``attention_mask`` (ones: rows, tokens so far) in place of ``mask``, and
    ``position_ids`` only where places are no plain count.

    Parameters
    ----------
    embed : Graph
        ``input_ids`` to ``inputs_embeds``.
    window : int or None
        Tokens a layer with a window looks back, itself among them.
    """

    def __init__(
        self, embed: Graph, decoder: Graph, prompt: EmbeddedPrompt, cache: CacheShape, *, window: int | None = None
    ) -> None:
        super().__init__(decoder, cache)
        self._embed, self._given, self._window = embed, prompt, window
        self.prompt = prompt.ids
        self._next = prompt.next_position

    def start(self) -> Logits:
        """See :class:`TokenModel`."""
        return self._feed(self._given.embeds, self._given.positions, self._given.images)

    def step(self, tokens: Sequence[int]) -> Logits:
        """See :class:`TokenModel`."""
        embeds = self._embed.run({"input_ids": np.array(tokens, dtype=np.int64)[:, None]})["inputs_embeds"]
        shape = (*self._given.positions.shape[:-2], len(tokens), 1)
        logits = self._feed(embeds, np.full(shape, self._next, dtype=np.int64), None)
        self._next += 1
        return logits

    def _feed(
        self,
        embeds: npt.NDArray[np.float32],
        positions: npt.NDArray[np.int64],
        images: npt.NDArray[np.int64] | None,
    ) -> Logits:
        seq = embeds.shape[1]
        total = self._length + seq
        taken = self._decoder.inputs
        feeds: Arrays = {"inputs_embeds": embeds}
        if "position_ids" in taken:
            feeds["position_ids"] = positions
        if "mask" in taken:
            feeds["mask"] = causal_mask(seq, total, images)
        if "mask_sliding" in taken:
            feeds["mask_sliding"] = causal_mask(seq, total, images, window=self._window)
        if "attention_mask" in taken:
            feeds["attention_mask"] = np.ones((len(embeds), total), dtype=np.int64)
        return self._advance(feeds, {}, seq)
