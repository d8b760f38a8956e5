"""Train and export the stroke-impression demonstration: ``python -m models.export.stroke_impression OUT``.

Seeded and recorded: data, order, initial weights and optimiser follow from ``--seed``; ``training.json`` keeps the
settings and the figures. Nothing here is ever run by the node.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from models.export.stroke_impression_data import Picture, pictures, with_other_figures, without_side
from models.export.stroke_impression_network import ImpressionNetwork, Shape
from models.export.stroke_impression_onnx import export_network, identical_texts
from models.export.stroke_impression_text import END, FACTS, LANGUAGES, PADDING, WITHHELD, build_tokenizer, sentence
from models.generation_prompt import prompt_text
from models.report_facts import ReportFacts
from models.results import Outcome

SIDE_WITHHELD = 0.35
"""Part of the samples whose side is to be read off the image."""
OTHER_FIGURES = 0.85
"""Part of the samples whose figures are not those of the phantom."""


def main() -> None:
    """Train, export, and write graphs, tokenizer and log."""
    arguments = _arguments()
    torch.manual_seed(arguments.seed)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer()
    tokenizer.save(str(arguments.out / "tokenizer.json"), pretty=False)
    started = time.monotonic()
    train_set = list(pictures(arguments.pictures, seed=arguments.seed))
    print(f"{len(train_set)} phantoms in {time.monotonic() - started:.0f} s", flush=True)
    network, curve = train(train_set, tokenizer, arguments)
    seconds = time.monotonic() - started
    if arguments.state:
        torch.save(network.state_dict(), arguments.state)
    exported = export_network(network, arguments.out)
    starts, stop = [tokenizer.encode(f"[{x}]").ids[0] for x in LANGUAGES], tokenizer.encode(END).ids[0]
    samples = [_sample(picture, tokenizer) for picture in train_set[:20]]
    exported["identical_texts"] = identical_texts(network, arguments.out, samples, starts, stop)
    log: dict[str, Any] = {
        "seed": arguments.seed,
        "phantoms": arguments.pictures,
        "phantom_grid_zyx": "20 x 64 x 64",
        "steps": arguments.steps,
        "batch": arguments.batch,
        "learning_rate": arguments.learning_rate,
        "optimiser": "AdamW, weight decay 0.01, one cycle cosine, gradient norm 1",
        "side_withheld": SIDE_WITHHELD,
        "other_figures": OTHER_FIGURES,
        "parameters": sum(p.numel() for p in network.parameters()),
        "loss": {str(int(step)): value for step, value in curve},
        "seconds": round(seconds),
        "threads": arguments.threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "exported": exported,
    }
    (arguments.out / "training.json").write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--pictures", type=int, default=700)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--state", type=Path, help="also keep the torch weights here")
    return parser.parse_args()


def train(
    train_set: list[Picture], tokenizer: Tokenizer, arguments: argparse.Namespace
) -> tuple[ImpressionNetwork, list[list[float]]]:
    """Return the trained network and its loss curve as ``[step, mean loss since the last entry]``."""
    facts_length = len(tokenizer.encode(prompt_text(FACTS, train_set[0].facts)).ids)
    shape = Shape(tokenizer.get_vocab_size(), facts_length)
    network = ImpressionNetwork(shape)
    optimiser = torch.optim.AdamW(network.parameters(), lr=arguments.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=arguments.learning_rate, total_steps=arguments.steps, pct_start=0.08
    )
    rng = random.Random(arguments.seed)
    padding = tokenizer.encode(PADDING).ids[0]
    views = torch.from_numpy(np.stack([p.views for p in train_set]))
    curve: list[list[float]] = []
    recent: list[float] = []
    for step in range(1, arguments.steps + 1):
        chosen = [rng.randrange(len(train_set)) for _ in range(arguments.batch)]
        fact_ids, text_ids = _batch([train_set[k].facts for k in chosen], tokenizer, rng)
        loss = network.loss(views[chosen], fact_ids, text_ids, padding)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        recent.append(float(loss.detach()))
        if step % 100 == 0:
            curve.append([step, round(sum(recent) / len(recent), 5)])
            recent.clear()
            print(curve[-1], flush=True)
    return network.eval(), curve


def _sample(picture: Picture, tokenizer: Tokenizer) -> tuple[torch.Tensor, torch.Tensor]:
    fact_ids = tokenizer.encode(prompt_text(FACTS, picture.facts)).ids
    return torch.from_numpy(picture.views[None]), torch.tensor([fact_ids])


def _batch(facts: list[ReportFacts], tokenizer: Tokenizer, rng: random.Random) -> tuple[torch.Tensor, torch.Tensor]:
    prompts, texts = [], []
    for own in facts:
        told = with_other_figures(own, rng) if rng.random() < OTHER_FIGURES else own
        if told.outcome is Outcome.FOUND and rng.random() < 0.05:
            told = without_side(told)
        language = rng.choice(LANGUAGES)
        prompt = prompt_text(FACTS, told)
        if rng.random() < SIDE_WITHHELD and told.side is own.side:
            prompt = prompt.replace(f"[{told.side}]", WITHHELD)
        prompts.append(tokenizer.encode(prompt).ids)
        texts.append(tokenizer.encode(f"[{language}]{sentence(told, language)}{END}").ids)
    longest = max(map(len, texts))
    padding = tokenizer.encode(PADDING).ids[0]
    return torch.tensor(prompts), torch.tensor([ids + [padding] * (longest - len(ids)) for ids in texts])


if __name__ == "__main__":
    main()
