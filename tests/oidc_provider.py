"""A small OpenID provider on loopback: discovery, keys, authorization with PKCE, tokens. It can be made to misbehave."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

CLIENT, SECRET = "ainode", "a secret of the client"
Claims = dict[str, Any]


@dataclass
class OidcProvider:
    """One provider, and whom it recognises: the next one who comes.

    Attributes
    ----------
    claims : dict
        Of the person, beside those of the protocol.
    spoil : callable
        Changes the claims of the ID token before it is signed.
    signing : str
        ``right``, ``other`` (a key that is not published), ``none`` (no signature) or ``shared`` (HS256 with the public
        key's bytes, which are no secret).
    """

    claims: Claims = field(
        default_factory=lambda: {"sub": "u-1", "preferred_username": "Ada", "groups": ["pacs-admins"]}
    )
    spoil: Callable[[Claims], None] = lambda claims: None
    signing: str = "right"
    issuer: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)
    _key: RSAKey = field(default_factory=lambda: _key("one"))

    @contextmanager
    def running(self) -> Iterator[OidcProvider]:
        """Listen on a free port until the block ends."""
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path, query = urlsplit(self.path).path, _fields(urlsplit(self.path).query)
                match path:
                    case "/.well-known/openid-configuration":
                        self._answer(provider._discovery())
                    case "/keys":
                        self._answer({"keys": [provider._key.as_dict(private=False)]})
                    case "/authorize":
                        self.send_response(302)
                        self.send_header("Location", provider.authorize(query))
                        self.end_headers()
                    case _:
                        self.send_error(404)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                answer = provider._token(_fields(body), self.headers.get("Authorization", ""))
                self._answer(answer, 400 if "error" in answer else 200)

            def _answer(self, content: dict[str, Any], status: int = 200) -> None:
                body = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Be quiet."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()

    def authorize(self, query: dict[str, str]) -> str:
        """Recognise somebody at once; where the browser is sent."""
        self.asked.append(query)
        code = secrets.token_urlsafe(16)
        self._codes[code] = query
        answer = {"code": code, "state": query["state"], "iss": self.issuer}
        return f"{query['redirect_uri']}?{urlencode(answer)}"

    def _discovery(self) -> dict[str, str]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
        }

    def _token(self, fields: dict[str, str], identity: str) -> dict[str, Any]:
        asked = self._codes.pop(fields.get("code", ""), None)
        expected = "Basic " + base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        if asked is None or asked["redirect_uri"] != fields.get("redirect_uri"):
            return {"error": "invalid_grant"}
        digest = hashlib.sha256(fields.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != asked.get("code_challenge"):
            return {"error": "invalid_grant"}
        if asked.get("code_challenge_method") != "S256" or identity.replace("%20", " ") != expected:
            return {"error": "invalid_client"}
        return {"access_token": "x", "token_type": "Bearer", "id_token": self._id_token(asked)}

    def _id_token(self, asked: dict[str, str]) -> str:
        now = int(time.time())
        claims: Claims = {
            **{"iss": self.issuer, "aud": asked["client_id"], "iat": now, "exp": now + 60, "nonce": asked["nonce"]},
            **self.claims,
        }
        self.spoil(claims)
        match self.signing:
            case "none":
                parts = ({"alg": "none"}, claims)
                return (
                    ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=").decode() for p in parts)
                    + "."
                )
            case "shared":
                shared = OctKey.import_key(self._key.as_pem(private=False))
                return jwt.encode({"alg": "HS256", "kid": "one"}, claims, shared, algorithms=["HS256"])
            case "other":
                return jwt.encode({"alg": "RS256", "kid": "one"}, claims, _key("two"))
        return jwt.encode({"alg": "RS256", "kid": "one"}, claims, self._key)


@functools.cache
def _key(name: str) -> RSAKey:
    """Making one takes its time; a name has the same one in each test."""
    return RSAKey.generate_key(2048, {"kid": name, "use": "sig"})


def _fields(text: str) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(text).items()}
