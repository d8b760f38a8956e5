"""The models that are installed on this node, and which version of each stands behind its id."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from models.registry import Registry
    from node.settings import Settings


def registry_of(settings: Settings, connection: Connection | None = None) -> Registry:
    """Read the cards of the catalogue and of the site's folders.

    Parameters
    ----------
    connection : Connection or None
        Where the approvals are; with None nothing stands behind an id that has several versions.
    """
    from models.registry import Registry

    registry = Registry(settings.models.folders, threads=settings.jobs.threads)
    if connection is not None:
        serve(registry, settings, connection)
    return registry


def chosen(registry: Registry, settings: Settings, *models: str) -> Registry:
    """``registry``, with the approvals of this node where they matter: the database is opened only then.

    Parameters
    ----------
    models : str
        Models that are to run or to be shown: what a chain among them is made of may depend on approvals, too.
    """
    if settings.source is None:
        return registry
    several = not all(map(registry.stands, registry.list()))
    if not several and not any(map(registry.asks_approvals, models)):
        return registry
    from node.archive.engine import has_store, open_store

    if not several and not has_store(settings):
        registry.serve(
            {}, required=settings.models.require_approval
        )  # where no node has run nobody has approved anything
        return registry
    store = open_store(settings)
    try:
        with store.read() as connection:
            serve(registry, settings, connection)
    finally:
        store.close()
    return registry


def serve(registry: Registry, settings: Settings, connection: Connection) -> None:
    """Have ``registry`` know what is approved on this node."""
    from node.archive import approvals

    registry.serve(approvals.current(connection), required=settings.models.require_approval)
