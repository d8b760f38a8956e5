"""The overlay viewer of the console (docs/viewers.md)."""

from node.web.viewer.router import viewer_router

__all__ = ["viewer_router"]
