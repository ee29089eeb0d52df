"""Signed tokens: issued by Entra and by the managed identity endpoint, checked by every service."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from local.tenant.clock import Clock
from local.tenant.directory import EXCHANGE, Directory, Principal


class Issuer:
    """Issues and checks RS256 tokens with a key of its own. `lifetime` is in seconds."""

    def __init__(self, clock: Clock, directory: Directory, issuer_url: str) -> None:
        self._clock = clock
        self._directory = directory
        self._url = issuer_url  # of Entra, without a trailing slash
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._id = uuid.uuid4().hex
        self._checked: dict[str, dict[str, Any]] = {}
        self.lifetime = 3599
        self.revoked_before = 0.0

    def v2_issuer(self, tenant: str) -> str:
        """The issuer of version 2 tokens, and of the assertions which managed identities present."""
        return f"{self._url}/{tenant}/v2.0"

    def issue(self, principal: Principal, resource: str) -> tuple[str, int]:
        """A token of `principal` for `resource` and when it expires, in seconds since 1970."""
        now = int(self._clock.now())
        expires = now + self.lifetime
        exchange = resource == EXCHANGE
        claims: dict[str, Any] = {
            "aud": resource,
            # Azurite insists on the sts.windows.net form of version 1 tokens; federation compares the version 2 form.
            "iss": self.v2_issuer(principal.tenant) if exchange else f"https://sts.windows.net/{principal.tenant}/",
            "iat": now,
            "nbf": now,
            "exp": expires,
            "appid": principal.client_id,
            "appidacr": "1" if principal.kind == "app" else "2",
            "app_displayname": principal.name,
            "idtyp": "app",
            "oid": principal.object_id,
            "sub": principal.object_id,
            "tid": principal.tenant,
            "uti": uuid.uuid4().hex[:22],
            "ver": "2.0" if exchange else "1.0",
        }
        roles = self._directory.roles_of(principal, resource)
        if roles:
            claims["roles"] = roles
        return self.sign(claims), expires

    def sign(self, claims: dict[str, Any]) -> str:
        """A token with just these claims."""
        return jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": self._id})

    def check(self, token: str, *audiences: str) -> dict[str, Any]:
        """The claims of a valid token for one of `audiences` (any, when none is given).

        Raises:
            ValueError: saying what is wrong with it.
        """
        claims = self._checked.get(token)
        if claims is None:
            try:
                claims = jwt.decode(
                    token,
                    self._key.public_key(),
                    algorithms=["RS256"],
                    options={"verify_aud": False, "verify_exp": False, "verify_nbf": False, "verify_iat": False},
                )
            except jwt.PyJWTError as error:
                raise ValueError(f"IDX10500: Signature validation failed. {error}") from None
            if len(self._checked) > 1_000:
                self._checked.clear()
            self._checked[token] = claims
        if claims["exp"] <= self._clock.now():
            raise ValueError("IDX10223: Lifetime validation failed. The token is expired.")
        if claims["iat"] < self.revoked_before:
            raise ValueError("The token has been revoked.")
        if audiences and claims["aud"].rstrip("/") not in audiences:
            raise ValueError(f"IDX10214: Audience validation failed. Audiences: '{claims['aud']}'.")
        return claims

    def jwks(self) -> dict[str, Any]:
        """The public key, as the jwks_uri serves it."""
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key()))
        return {"keys": [{**public, "use": "sig", "kid": self._id}]}


def bearer(header: str | None) -> str:
    """The token of an Authorization header.

    Raises:
        ValueError: there is none.
    """
    scheme, _, token = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise ValueError("the request carries no bearer token")
    return token.strip()


def peek(token: str) -> dict[str, Any]:
    """The claims of a token without any check, or nothing when it is no token."""
    try:
        middle = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    except (IndexError, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}
