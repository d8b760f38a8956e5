"""DICOMweb as this node answers it: what was received and what it made (docs/dicomweb.md)."""

from node.web.dicomweb.router import ROOT, add_cors, dicomweb_router

__all__ = ["ROOT", "add_cors", "dicomweb_router"]
