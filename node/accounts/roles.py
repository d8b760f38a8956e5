"""Roles: each may what the one before may."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What somebody may do."""

    VIEWER = "viewer"
    """Look."""
    OPERATOR = "operator"
    """Also act on studies, runs and deliveries; pause and resume."""
    ADMINISTRATOR = "administrator"
    """Also approve models and manage users."""

    @property
    def rank(self) -> int:
        """0 for the one that may least."""
        return list(Role).index(self)

    def covers(self, needed: Role) -> bool:
        """Whether this role may what ``needed`` may."""
        return self.rank >= needed.rank


def lower(first: Role, second: Role) -> Role:
    """The one of two roles that may less."""
    return first if first.rank <= second.rank else second
