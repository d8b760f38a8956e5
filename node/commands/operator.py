"""Who calls a command, for the ledger."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from node.accounts.users import Actor


def operator() -> Actor:
    """The account of the operating system that calls."""
    from node.accounts.users import Actor

    return Actor(getpass.getuser(), "command line")
