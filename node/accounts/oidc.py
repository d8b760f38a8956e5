"""The hospital's sign-on: OpenID Connect, authorization code with PKCE.

OpenID Connect Core 1.0 3.1, Discovery 1.0, RFC 7636 (S256), RFC 9207 (issuer in the answer). The ID token is believed only
with a signature of the provider's published keys, from this issuer, for this client, in time, with the nonce of the very
request.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import ssl
import threading
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jwt import JWTClaimsRegistry

from node.accounts.roles import Role
from node.errors import SignOnFailed
from node.settings import OidcSection

# Signatures only, and only with keys that the provider alone has: never "none", never a shared secret.
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]
_DISCOVERY_SECONDS = 3600.0
_LEEWAY_SECONDS = 60
_LONGEST_ANSWER = 1 << 20


@dataclass(frozen=True, slots=True)
class SignOnRequest:
    """What is remembered of a request until the provider sends the browser back."""

    state: str
    nonce: str
    verifier: str


@dataclass(frozen=True, slots=True)
class Recognised:
    """Whom the provider has recognised."""

    subject: str
    name: str
    role: Role


class Provider:
    """One provider. Safe to share between threads.

    Parameters
    ----------
    section : OidcSection
    return_url : str
        Where the provider sends the browser back to; registered there.
    """

    def __init__(self, section: OidcSection, return_url: str) -> None:
        self._section = section
        self._return_url = return_url
        self._guard = threading.Lock()
        self._known: tuple[float, dict[str, Any], KeySet] | None = None

    def begin(self) -> tuple[SignOnRequest, str]:
        """A new request, and the address the browser is sent to.

        Raises
        ------
        SignOnFailed
            The provider cannot be reached, or is another one than configured.
        """
        request = SignOnRequest(*(secrets.token_urlsafe(32) for _ in range(3)))
        digest = hashlib.sha256(request.verifier.encode("ascii")).digest()
        query = {
            "response_type": "code",
            "client_id": self._section.client_id,
            "redirect_uri": self._return_url,
            "scope": " ".join(self._section.scopes),
            "state": request.state,
            "nonce": request.nonce,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii"),
            "code_challenge_method": "S256",
        }
        endpoint = str(self._metadata()[0]["authorization_endpoint"])
        return request, f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    def finish(self, request: SignOnRequest, answer: dict[str, str]) -> Recognised:
        """Who has signed on, from what the browser brings back.

        Raises
        ------
        SignOnFailed
            The answer is none to this request, the provider refused, or its ID token is not to be believed.
        """
        if not secrets.compare_digest(answer.get("state", "").encode(), request.state.encode()):
            raise SignOnFailed("the answer belongs to no request of this browser")
        if "error" in answer:
            raise SignOnFailed(f"the sign-on refused: {answer['error'][:64]}")
        if answer.get("iss", self._section.issuer) != self._section.issuer:
            raise SignOnFailed("the answer is of another issuer")
        if not answer.get("code"):
            raise SignOnFailed("the answer holds no code")
        return self._recognised(self._claims(self._redeem(answer["code"], request.verifier), request.nonce))

    def _redeem(self, code: str, verifier: str) -> str:
        section = self._section
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._return_url,
            "code_verifier": verifier,
            "client_id": section.client_id,
        }
        identity = None
        if section.client_secret_file is not None:
            identity = httpx.BasicAuth(section.client_id, _secret(section))
        answer = self._ask("POST", str(self._metadata()[0]["token_endpoint"]), data=fields, auth=identity)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise SignOnFailed("the sign-on gave no ID token")
        return token

    def _claims(self, token: str, nonce: str) -> dict[str, Any]:
        section = self._section
        wanted = JWTClaimsRegistry(
            now=int(time.time()),
            leeway=_LEEWAY_SECONDS,
            iss={"essential": True, "value": section.issuer},
            aud={"essential": True, "value": section.client_id},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            decoded = self._decoded(token)
            wanted.validate(decoded.claims)
        except (JoseError, ValueError) as error:
            raise SignOnFailed(f"the ID token is not to be believed: {type(error).__name__}") from error
        claims = dict(decoded.claims)
        # OpenID Connect Core 3.1.3.7, 3 to 5: with several audiences the client it was made for is named.
        if claims.get("azp", section.client_id) != section.client_id:
            raise SignOnFailed("the ID token was made for another client")
        if isinstance(claims["aud"], list) and len(claims["aud"]) > 1 and "azp" not in claims:
            raise SignOnFailed("the ID token does not say which client it was made for")
        return claims

    def _decoded(self, token: str) -> jwt.Token:
        try:
            return jwt.decode(token, self._metadata()[1], algorithms=_ALGORITHMS)
        except (JoseError, ValueError):
            # The provider may have changed its keys since they were read.
            return jwt.decode(token, self._metadata(fresh=True)[1], algorithms=_ALGORITHMS)

    def _recognised(self, claims: dict[str, Any]) -> Recognised:
        section = self._section
        held = claims.get(section.role_claim, [])
        groups = {each for each in (held if isinstance(held, list) else [held]) if isinstance(each, str)}
        mapping = {
            Role.VIEWER: section.viewer,
            Role.OPERATOR: section.operator,
            Role.ADMINISTRATOR: section.administrator,
        }
        roles = [role for role, values in mapping.items() if groups & set(values)]
        if not roles:
            raise SignOnFailed(f"no value of '{section.role_claim}' gives a role here")
        subject = str(claims["sub"])
        name = claims.get(section.name_claim)
        best = max(roles, key=lambda role: role.rank)
        return Recognised(subject, name if isinstance(name, str) and name.strip() else subject, best)

    def _metadata(self, *, fresh: bool = False) -> tuple[dict[str, Any], KeySet]:
        """Metadata and keys of the provider, read again each hour or when asked to."""
        with self._guard:
            now = time.monotonic()
            if self._known is None or fresh or now - self._known[0] > _DISCOVERY_SECONDS:
                issuer = self._section.issuer
                found = self._ask("GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration")
                if found.get("issuer") != issuer:
                    raise SignOnFailed("the sign-on is another issuer than [web.oidc] names")
                for key in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                    if not isinstance(found.get(key), str):
                        raise SignOnFailed(f"the sign-on does not say its {key}")
                try:
                    keys = KeySet.import_key_set(self._ask("GET", found["jwks_uri"]))  # type: ignore[arg-type]
                except (JoseError, ValueError, KeyError) as error:
                    raise SignOnFailed("the keys of the sign-on cannot be read") from error
                self._known = now, found, keys
            return self._known[1], self._known[2]

    def _ask(self, method: str, url: str, **what: Any) -> dict[str, Any]:
        section = self._section
        trust: ssl.SSLContext | bool = True
        if section.ca is not None:
            trust = ssl.create_default_context(cafile=str(section.ca))
        try:
            with httpx.Client(verify=trust, timeout=section.timeout_seconds, follow_redirects=False) as client:
                answer = client.request(method, url, headers={"Accept": "application/json"}, **what)
            if answer.status_code != 200 or len(answer.content) > _LONGEST_ANSWER:
                raise SignOnFailed(f"the sign-on answered with status {answer.status_code}")
            content = answer.json()
        except (httpx.HTTPError, OSError, ValueError) as error:
            raise SignOnFailed(f"the sign-on cannot be reached or understood: {type(error).__name__}") from error
        if not isinstance(content, dict):
            raise SignOnFailed("the sign-on's answer is no JSON object")
        return content


def _secret(section: OidcSection) -> str:
    assert section.client_secret_file is not None
    try:
        return section.client_secret_file.read_text(encoding="utf-8").splitlines()[0].strip()
    except (OSError, IndexError, UnicodeDecodeError) as error:
        raise SignOnFailed("web.oidc.client_secret_file: cannot be read, or is empty") from error
