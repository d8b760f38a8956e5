"""Sentences the stroke-impression demonstration learns, and its tokenizer.

Words of English, single characters of Japanese, single digits: a number of any size is copied digit by digit.
"""

from __future__ import annotations

from itertools import product

from tokenizers import Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split

from models.report_facts import Lesion, ReportFacts, format_ml
from models.results import Laterality, Outcome

LANGUAGES = ("en", "ja")
END, PADDING = "[end]", "[pad]"
WITHHELD = "[withheld]"
"""Stands for the side when the network is to find it in the image: in training and in the ablation only."""
FACTS = "[{outcome}][{side}]{count:_>3}{total:_<5}{largest:_<5}{limit:_<5}"
"""Fixed width, so that the place of a digit says which number it belongs to."""

_EN_WHERE = {
    Laterality.LEFT: " on the left side of the brain",
    Laterality.RIGHT: " on the right side of the brain",
    Laterality.BILATERAL: " on both sides of the brain",
    Laterality.MIDLINE: " in the midline of the brain",
    Laterality.UNKNOWN: "",
}
_JA_WHERE = {
    Laterality.LEFT: "左側の脳実質に",
    Laterality.RIGHT: "右側の脳実質に",
    Laterality.BILATERAL: "両側の脳実質に",
    Laterality.MIDLINE: "脳の正中部に",
    Laterality.UNKNOWN: "脳実質に",
}


def sentence(facts: ReportFacts, language: str) -> str:
    """Return the impression to be learnt for ``facts``."""
    if facts.outcome is Outcome.NOTHING_FOUND:
        return _nothing_found(facts.detection_limit_ml, language)
    total, count = format_ml(facts.total_ml), facts.count
    largest = format_ml(facts.lesions[0].volume_ml) if count > 1 else ""
    if language == "ja":
        text = f"{_JA_WHERE[facts.side]}急性期梗塞に合致する拡散制限域を{count}か所認める。総体積は{total} mL"
        return text + (f"で、最大の病変は{largest} mLである。" if largest else "である。")
    text = f"Restricted diffusion{_EN_WHERE[facts.side]}, consistent with acute infarct: {count} "
    text += f"{'lesion' if count == 1 else 'lesions'}, total volume {total} mL"
    return text + (f", the largest {largest} mL." if largest else ".")


def _nothing_found(limit_ml: float | None, language: str) -> str:
    if language == "ja":
        limit = "" if limit_ml is None else f"（検出限界は{format_ml(limit_ml)} mL）"
        return f"拡散制限域を認めない{limit}。ただし、急性期梗塞を否定するものではない。"
    limit = "" if limit_ml is None else f" (detection limit {format_ml(limit_ml)} mL)"
    return f"No restricted diffusion was found{limit}; this does not exclude acute infarct."


def build_tokenizer() -> Tokenizer:
    """Return the tokenizer; the same every time."""
    split = Split(Regex(r"\[[a-z_]+\]| ?[A-Za-z]+|."), "isolated")
    specials = [PADDING, END, *(f"[{language}]" for language in LANGUAGES), WITHHELD]
    specials += [f"[{word}]" for word in (*Outcome, *Laterality)]
    words = sorted({piece for text in _every_wording() for piece, _ in split.pre_tokenize_str(text)})
    vocabulary = list(dict.fromkeys([*specials, *"0123456789._<", *words]))
    tokenizer = Tokenizer(WordLevel({token: number for number, token in enumerate(vocabulary)}, unk_token=PADDING))
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = Fuse()
    tokenizer.add_special_tokens(specials)
    return tokenizer


def _every_wording() -> list[str]:
    texts = []
    for language, side, count in product(LANGUAGES, Laterality, (1, 2)):
        lesions = tuple(Lesion(k, side, 10.0, None) for k in range(1, count + 1))
        for outcome, limit in product((Outcome.FOUND, Outcome.NOTHING_FOUND), (None, 0.05)):
            texts.append(sentence(ReportFacts(outcome, lesions, 20.0, side, limit, None), language))
    return texts
