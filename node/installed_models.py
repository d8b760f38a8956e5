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
        _serve(registry, connection)
    return registry


def chosen(registry: Registry, settings: Settings) -> Registry:
    """``registry``, with the approvals of this node where they matter: the database is opened only then."""
    if settings.source is None or all(map(registry.stands, registry.list())):
        return registry
    from node.archive.engine import open_store

    store = open_store(settings)
    try:
        with store.read() as connection:
            _serve(registry, connection)
    finally:
        store.close()
    return registry


def _serve(registry: Registry, connection: Connection) -> None:
    from node.archive import approvals

    registry.serve(approvals.current(connection))
