"""Links and tokens that acknowledge an alert: whoever has been told can say so, and nobody else can."""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path

from node.errors import UsageError
from node.site_secret import site_key

_PURPOSE = "acknowledge"
_DIGITS = 20


class Acknowledgement:
    """Makes and reads tokens.

    Parameters
    ----------
    data_dir : Path
        Holds the site's secret.
    public_url : str
        Under which the console's ``/alert/…`` pages are reached; empty: there are no links, the token is given alone.
    """

    def __init__(self, data_dir: Path, public_url: str) -> None:
        self._key = site_key(data_dir, _PURPOSE)
        self._url = public_url.rstrip("/")

    def token(self, alert_id: int) -> str:
        """Token of an alert, as ``17-GEZDGNBVGY3TQOJQGEZD``: its number and 100 bits that cannot be guessed."""
        digest = hmac.new(self._key, str(alert_id).encode("ascii"), hashlib.sha256).digest()
        return f"{alert_id}-{base64.b32encode(digest).decode('ascii')[:_DIGITS]}"

    def link(self, alert_id: int) -> str:
        """Link of an alert; empty where the configuration names no public_url."""
        return f"{self._url}/alert/{self.token(alert_id)}" if self._url else ""

    def alert_of(self, token: str) -> int:
        """Number of the alert a token is for.

        Raises
        ------
        UsageError
            It is no token of this node.
        """
        number, _, _ = token.strip().partition("-")
        if number.isascii() and number.isdigit() and len(number) < 19:
            expected = self.token(int(number))
            if hmac.compare_digest(expected.encode(), token.strip().upper().encode("ascii", "replace")):
                return int(number)
        raise UsageError("this is not a token of this node")
