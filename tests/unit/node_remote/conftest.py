"""Shared by the tests of remote models: one warm child, one phantom."""

from __future__ import annotations
