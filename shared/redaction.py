"""The second line of defence for secrets: what looks like one is blotted out of text before anybody sees it.

The first line is that no code puts a secret into a text. This one stands behind it, for texts written by others:
error messages of a service, log lines of an SDK. It is a net for known shapes, not a proof.
"""

from __future__ import annotations

import re

BLOT = "[redacted]"

# Key names whose value is secret, in a form body, in JSON, in a connection string or in a query.
_KEYS = (
    "client_secret|client_assertion|assertion|access_token|refresh_token|id_token|password|AccountKey|SharedAccessKey|"
    "SharedAccessSignature|x-identity-header|x-functions-key"
)
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    # A JWT: the first part is base64url of '{"'.
    (re.compile(r"\beyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?"), BLOT),
    (
        re.compile(r"(?i)\b(bearer|sharedkey|sharedkeylite)(\s+)(?!authorization=)[A-Za-z0-9._~+/:=-]{6,}"),
        rf"\1\2{BLOT}",
    ),
    (re.compile(rf"(?i)\b({_KEYS})([\"']?\s*[=:]\s*[\"']?)[^\s\"'&,;{{}}]+"), rf"\1\2{BLOT}"),
    # Only as a query parameter: `code` and `sig` are ordinary words elsewhere.
    (re.compile(r"(?i)([?&](?:sig|code)=)[^\s\"'&]+"), rf"\1{BLOT}"),
    # The shape of a client secret as Entra ID makes them.
    (re.compile(r"(?<![\w~.-])[\w~.-]{3}\dQ~[\w~.-]{31,37}"), BLOT),
)


def redact(text: str, *known: str) -> str:
    """`text` without anything that looks like a credential, and without the `known` secrets, wherever they stand."""
    for secret in known:
        if secret:
            text = text.replace(secret, BLOT)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


def shorten(text: str, limit: int = 300) -> str:
    """`text` in one line of at most `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."
