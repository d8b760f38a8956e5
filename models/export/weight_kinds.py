"""Which kinds of weights an import may leave, and how far each may go; known without onnx or torch."""

from __future__ import annotations

FLOAT = "float"
MOST_CHANGED = {"int8": 0.05, "fp16": 0.01, "int4": 0.05}
"""Kind → share of words that may change unless somebody asks for more.

One word in twenty for integers, whatever their width: who reads a text does not care how many bits its weights had.
"""
NAMES = (FLOAT, *MOST_CHANGED)
"""What ``ainode models import --weights`` takes."""
