"""The loop itself, on a model whose next token is written down: endings, limits, constraints, draws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from models.generation.constraints import ClosedAnswers, ForcedFirst, ForcedLast, Never, NeverFrom, NoRepeatedNgram
from models.generation.limits import Ending, Limits
from models.generation.masks import causal_mask, image_numbers
from models.generation.parsing import answer_of, boxes_of, choice_of, located_of
from models.generation.prompting import section_positions
from models.generation.strategies import Strategy, likely_tokens, write
from models.generation.tiling import best_grid, smart_size

STOP = 9


class Table:
    """Logits follow from the last token alone."""

    prompt = (0,)

    def __init__(self, logits: np.ndarray) -> None:
        self.logits = logits.astype(np.float32)
        self.steps = 0

    def start(self) -> np.ndarray:
        return self.logits[[0]]

    def step(self, tokens: Sequence[int]) -> np.ndarray:
        self.steps += 1
        return self.logits[list(tokens)]

    def keep(self, rows: Sequence[int]) -> None:
        """Nothing is remembered."""


def chain(*tokens: int) -> Table:
    """Each token is followed by the next, surely."""
    logits = np.zeros((10, 10))
    for before, after in zip((0, *tokens), tokens, strict=False):
        logits[before, after] = 10
    return Table(logits)


def test_text_ends_at_the_stop_token_and_is_whole() -> None:
    written = write(chain(3, 4, 5, STOP), Strategy(), Limits(20, (STOP,)))
    assert (written.tokens, written.ending, written.cut) == ((3, 4, 5), Ending.STOPPED, False)


def test_text_without_an_end_is_cut_and_says_so() -> None:
    for strategy in (Strategy(), Strategy(kind="beams", beams=2)):
        written = write(chain(3, 4, 3), strategy, Limits(6, (STOP,)))
        assert written.tokens == (3, 4, 3, 4, 3, 4)
        assert (written.ending, written.cut) == (Ending.LENGTH, True)


def test_time_runs_out() -> None:
    for strategy in (Strategy(), Strategy(kind="beams", beams=2)):
        ticks = iter(range(1000))
        limits = Limits(500, (STOP,), seconds=5, clock=lambda ticks=ticks: float(next(ticks)))
        model = chain(3, 4, 3)
        written = write(model, strategy, limits)
        assert written.ending is Ending.TIME
        assert 0 < len(written.tokens) < 10
        assert model.steps < 10


def test_a_stop_string_ends_the_text_and_progress_is_told() -> None:
    told: list[tuple[int, ...]] = []
    limits = Limits(
        20,
        (STOP,),
        stop_strings=("4 5",),
        decode=lambda tokens: " ".join(map(str, tokens)),
        progress=lambda tokens: told.append(tuple(tokens)),
    )
    written = write(chain(3, 4, 5, 6, STOP), Strategy(), limits)
    assert (written.tokens, written.cut) == ((3, 4, 5), False)
    assert told == [(3,), (3, 4), (3, 4, 5)]


def test_constraints() -> None:
    scores = np.arange(10, dtype=np.float32)
    assert np.argmax(NoRepeatedNgram(2)(scores, [1, 9, 5, 1], 1)) == 8
    assert np.argmax(ForcedFirst(4)(scores, [0], 1)) == 4
    assert np.argmax(ForcedFirst(4)(scores, [0, 1], 1)) == 9
    assert np.argmax(ForcedLast(4, 3)(scores, [0, 1, 2], 1)) == 4
    assert np.argmax(Never((9, 8))(scores, [0], 1)) == 7


def test_only_a_closed_answer_comes_out() -> None:
    answers = ClosedAnswers([(1, 2), (1, 3), (4,)], STOP)
    for seed in range(20):
        logits = np.random.default_rng(seed).standard_normal((10, 10))
        for strategy in (Strategy(), Strategy(kind="beams", beams=3), Strategy(kind="sample", seed=seed)):
            written = write(Table(logits), strategy, Limits(8, (STOP,)), [answers])
            assert written.tokens in ((1, 2), (1, 3), (4,))
            assert not written.cut


def test_more_beams_than_answers_do_not_write_on() -> None:
    answers = ClosedAnswers([(1, 2), (4,)], STOP)
    model = Table(np.random.default_rng(0).standard_normal((10, 10)))
    for early_stopping in (True, False):
        strategy = Strategy(kind="beams", beams=5, early_stopping=early_stopping)
        model.steps = 0
        assert write(model, strategy, Limits(500, (STOP,)), [answers]).tokens in ((1, 2), (4,))
        assert model.steps <= 3


def test_tokens_that_are_no_text_never_come() -> None:
    scores = np.arange(10, dtype=np.float32)
    assert np.argmax(NeverFrom(6)(scores, [0], 1)) == 5
    assert np.argmax(scores) == 9


def test_draws_are_repeatable_and_stay_among_the_likely() -> None:
    logits = np.random.default_rng(1).standard_normal((10, 10))
    logits[:, STOP] = -50
    strategy = Strategy(kind="sample", top_p=0.8, temperature=0.9, seed=7)
    first, again = (write(Table(logits), strategy, Limits(30, (STOP,))).tokens for _ in range(2))
    other = write(Table(logits), strategy.model_copy(update={"seed": 8}), Limits(30, (STOP,))).tokens
    assert first == again
    assert first != other


def test_the_likely_tokens_are_those_of_transformers() -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    rng = np.random.default_rng(2)
    for _ in range(20):
        scores = rng.standard_normal(50).astype(np.float32) * 4
        strategy = Strategy(kind="sample", top_p=0.7, top_k=12, temperature=1.3)
        warmed = torch.from_numpy(scores)[None] / 1.3
        for warper in (transformers.TopKLogitsWarper(12), transformers.TopPLogitsWarper(0.7)):
            warmed = warper(None, warmed)
        expected = torch.softmax(warmed, -1)[0].numpy()
        assert np.allclose(likely_tokens(scores, strategy), expected, atol=1e-6)


def test_masks() -> None:
    images = image_numbers(np.array([False, True, True, False, True]))
    assert images.tolist() == [0, 1, 1, 0, 2]
    seen = causal_mask(5, 5, images)[0, 0] == 0
    assert seen[1].tolist() == [True, True, True, False, False]
    assert (causal_mask(5, 5, images, window=2)[0, 0] == 0)[4].tolist() == [False, False, False, True, True]
    assert (causal_mask(1, 4)[0, 0] == 0).all()


def test_positions_of_an_image_count_rows_and_columns() -> None:
    positions, following = section_positions(2, (2, 3), 2)
    assert positions[:, 0].T.tolist() == [
        [0, 0, 0], [1, 1, 1],
        [2, 2, 2], [2, 2, 3], [2, 2, 4], [2, 3, 2], [2, 3, 3], [2, 3, 4],
        [5, 5, 5], [6, 6, 6],
    ]  # fmt: skip
    assert following == 7


def test_parsers() -> None:
    assert answer_of("<think>B?</think><answer> pneumonia </answer>") == "pneumonia"
    assert answer_of("pneumonia") is None
    assert choice_of("<think>A or B</think><answer>B) effusion</answer>", "ABCD") == "B"
    assert choice_of("A or B", "ABCD") is None
    assert choice_of("A pleural effusion is seen.", "ABCD") is None
    assert choice_of("Type B dissection.", "ABCD") is None
    assert choice_of("The answer is C because a mass is seen.", "ABCD") == "C"
    assert choice_of("(D)", "ABCD") == choice_of("D. Mass", "ABCD") == choice_of("D", "ABCD") == "D"
    (box,) = boxes_of("effusion [100, 200, 300, 400] and [5, 5, 5, 9]", 1000)
    assert (box.left, box.top, box.right, box.bottom) == (0.1, 0.2, 0.3, 0.4)
    located = located_of("</s><s>pleural effusion<loc_100><loc_200><loc_300><loc_400><loc_0><loc_0><loc_1><loc_1></s>")
    assert [each.label for each in located] == ["pleural effusion"] * 2
    assert located[0].left == pytest.approx(0.1005)
    assert located_of("effusion<loc_300><loc_200><loc_100><loc_400>") == []


def test_sizes_of_pictures() -> None:
    assert best_grid(900, 900, 12, 448) == (1, 1) or best_grid(900, 900, 12, 448)[0] == best_grid(900, 900, 12, 448)[1]
    assert best_grid(2000, 1000, 12, 448)[0] == 2 * best_grid(2000, 1000, 12, 448)[1]
    grids = ((36, 36), (44, 30), (30, 44))
    assert smart_size(3000, 2000, 14, grids) == (44, 30)
    assert smart_size(2000, 3000, 14, grids) == (30, 44)
    assert smart_size(2000, 2050, 14, grids) == (36, 36)
