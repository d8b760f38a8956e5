"""A run for which a GPU's memory is not enough is made once more: with the GPU to itself, else on the CPU.

A result is computed in one place from its beginning to its end: its provider stands in it and in its key, and a part that
the GPU had computed before it gave up has other last digits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from models.errors import OutOfMemory
from models.placement import Left

if TYPE_CHECKING:
    from models.model import Model

logger = logging.getLogger(__name__)
T = TypeVar("T")


def where_there_is_room(models: Callable[[], Iterable[Model]], run: Callable[[], T]) -> T:
    """What ``run`` returns, wherever its models find room.

    Parameters
    ----------
    models : callable
        Gives the models that it uses; asked only where one of them finds none.

    Raises
    ------
    OutOfMemory
        The machine itself has no room, or the card of a model forbids the CPU.
    SelfTestFailed
        A model answers wrong on the CPU.
    """
    alone: set[str] = set()
    while True:
        try:
            return run()
        except OutOfMemory as error:
            failed = OutOfMemory(error.message, **error.detail)
        # Only now are the frames gone in which the error arose, and with them what they hold of the device.
        if not _moved(models, failed, alone):
            raise failed


def left_devices(models: Iterable[Model]) -> dict[str, str]:
    """Id of each model that left a device → why."""
    return {each.card.id: each.left.value for each in models if each.left is not None}


def _moved(models: Callable[[], Iterable[Model]], error: OutOfMemory, alone: set[str]) -> bool:
    """Whether something has changed that makes another try worth while; ``alone`` are those for which others left already."""
    if error.device is None:
        return False
    model = next((each for each in models() if each.card.id == error.detail.get("model")), None)
    if model is None:
        return False
    if model.card.id not in alone and model.graphs.make_room_on_device():
        alone.add(model.card.id)
        logger.warning("%s: other models left the GPU to make room (%s)", model.card.id, error.message)
        return True
    if not model.fall_back_to_cpu(Left.MEMORY):
        return False
    logger.warning("%s runs on the CPU, the GPU has no room for it (%s)", model.card.id, error.message)
    model.self_test()
    return True
