"""The steps of a training, and their log: AdamW, a short rise of the rate, then nnU-Net's polynomial fall."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Descent:
    """How a network is trained.

    Attributes
    ----------
    rate, decay : float
        Of AdamW; the rate rises over ``every`` steps and falls as ``(1 - step / steps) ** 0.9``.
    clip : float
        Largest norm of a gradient.
    every : int
        Steps of a row of the log.
    """

    rate: float
    decay: float
    clip: float
    every: int

    def run(self, network: nn.Module, steps: int, loss_at: Callable[[int], Tensor]) -> list[dict[str, float]]:
        """Train ``network`` in place on the losses of the steps, counted from 1; the log."""
        optimiser = torch.optim.AdamW(network.parameters(), self.rate, weight_decay=self.decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda done: min(1.0, (done + 1) / self.every) * max(1 - done / steps, 0) ** 0.9
        )
        begun = time.monotonic()
        log: list[dict[str, float]] = []
        recent: list[float] = []
        for step in range(1, steps + 1):
            loss = loss_at(step)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), self.clip)
            optimiser.step()
            schedule.step()
            recent.append(float(loss.detach()))
            if step % self.every == 0 or step == steps:
                minutes = (time.monotonic() - begun) / 60
                log.append({"step": step, "minutes": round(minutes, 2), "loss": round(float(np.mean(recent)), 4)})
                print(log[-1], flush=True)
                recent.clear()
        return log
