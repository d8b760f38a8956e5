"""Scopes of the kill switch as people name them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.errors import UsageError

if TYPE_CHECKING:
    from node.archive.pauses import Scope
    from node.settings import Settings


def scope_of(settings: Settings, scope: str, name: str, *, may_be_gone: bool = False) -> Scope:
    """The scope, after a look at whether the configuration knows the name: a misspelt pause would stop nothing.

    Parameters
    ----------
    may_be_gone : bool
        Accept a name that the configuration does not know any more.

    Raises
    ------
    UsageError
        Unknown scope or name.
    """
    from node.archive.pauses import Scope

    try:
        chosen = Scope(scope)
    except ValueError:
        raise UsageError(f"{scope}: pause one of {', '.join(Scope)}") from None
    if chosen is Scope.ALL:
        if name:
            raise UsageError("all takes no name")
        return chosen
    known = _known(settings, chosen)
    if not name or (name not in known and not may_be_gone):
        raise UsageError(
            f"there is no {chosen} {name or 'without a name'} (known: {', '.join(sorted(known)) or 'none'})"
        )
    return chosen


def names_of(settings: Settings) -> list[tuple[str, str]]:
    """Everything that can be paused: scope and name."""
    from node.archive.pauses import Scope

    named = [scope for scope in Scope if scope is not Scope.ALL]
    return [(str(Scope.ALL), ""), *((str(scope), name) for scope in named for name in sorted(_known(settings, scope)))]


def _known(settings: Settings, scope: Scope) -> set[str]:
    from node.archive.pauses import Scope

    if scope is Scope.DESTINATION:
        return set(settings.destination)
    if scope is Scope.RULE:
        return {rule.name for rule in settings.rule} | {prompt.name for prompt in settings.prompt}
    asked = {prompt.model for prompt in settings.prompt}
    return asked | {model for rule in settings.rule for model in (rule.model, rule.report_model) if model}
