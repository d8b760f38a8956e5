"""What was made of stored files, kept while it is asked for. Files never change under their name."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """The values that were used last, up to a number of them and a size. Safe to share between threads.

    Parameters
    ----------
    most : int
        Values.
    most_bytes : int
        Sum of what ``size`` says of them.
    """

    def __init__(self, most: int, most_bytes: int = 1 << 62, size: Callable[[Value], int] = lambda _: 1) -> None:
        self._most, self._most_bytes, self._size = most, most_bytes, size
        self._values: OrderedDict[object, Value] = OrderedDict()
        self._bytes = 0
        self._guard = threading.Lock()

    def get(self, key: object, make: Callable[[], Value]) -> Value:
        """The value of a key, made where it is not there. Two that ask at once may both make it."""
        with self._guard:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        with self._guard:
            if key not in self._values:
                self._values[key] = value
                self._bytes += self._size(value)
            while self._values and (len(self._values) > self._most or self._bytes > self._most_bytes):
                _, dropped = self._values.popitem(last=False)
                self._bytes -= self._size(dropped)
        return value
