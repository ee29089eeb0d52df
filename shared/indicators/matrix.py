"""Which action goes with which type, as data, and what becomes of an action that does not.

| type                              | Allowed | Audit | Warn | Block | BlockAndRemediate |
| --------------------------------- | ------- | ----- | ---- | ----- | ----------------- |
| FileSha256, FileSha1, FileMd5     | yes     | yes   | yes  | yes   | yes               |
| IpAddress, DomainName, Url        | yes     | yes   | yes  | yes   | no                |
| CertificateThumbprint             | yes     | no    | no   | no    | yes               |

Source: Microsoft's page indicators-overview (documented). The API has been recorded to keep BlockAndRemediate on a URL,
but the documentation says that network indicators do not support it, so it is never sent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from shared.indicators.model import Action, IndicatorType
from shared.indicators.problem import Problem, shorten

_FILE = frozenset(Action)
_NETWORK = frozenset(Action) - {Action.BLOCK_AND_REMEDIATE}

MATRIX: Mapping[IndicatorType, frozenset[Action]] = MappingProxyType(
    {
        IndicatorType.FILE_SHA256: _FILE,
        IndicatorType.FILE_SHA1: _FILE,
        IndicatorType.FILE_MD5: _FILE,
        IndicatorType.IP_ADDRESS: _NETWORK,
        IndicatorType.DOMAIN_NAME: _NETWORK,
        IndicatorType.URL: _NETWORK,
        IndicatorType.CERTIFICATE_THUMBPRINT: frozenset({Action.ALLOWED, Action.BLOCK_AND_REMEDIATE}),
    }
)

# How hard an action comes down on a device. Allowed is not on the scale: it switches protection off, so nothing
# but the word Allowed itself ever becomes Allowed.
STRENGTH: Mapping[Action, int] = MappingProxyType(
    {Action.AUDIT: 1, Action.WARN: 2, Action.BLOCK: 3, Action.BLOCK_AND_REMEDIATE: 4}
)

# Names that people and older tools write. The legacy two were retired in January 2022; their successors are the
# documented ones, and both have an alert in their name.
_NAMES: Mapping[str, Action] = MappingProxyType(
    {action.value.lower(): action for action in Action}
    | {"allow": Action.ALLOWED, "blockexecution": Action.BLOCK}
    | {"alert": Action.AUDIT, "alertandblock": Action.BLOCK_AND_REMEDIATE}
)
_LEGACY = frozenset({"alert", "alertandblock"})
_SPACING = str.maketrans("", "", " -_\t")


@dataclasses.dataclass(frozen=True, slots=True)
class Resolution:
    """The action that will be sent. `notes` are the changes made to what was asked, in plain words."""

    action: Action
    generate_alert: bool
    notes: tuple[str, ...] = ()


@lru_cache(maxsize=8)
def parse_convert(setting: str) -> frozenset[Action]:
    """The actions named by the setting `certificate_convert`; a name that is not one of the three is left out."""
    found = (_NAMES.get(_plain(piece)) for piece in setting.split(","))
    return frozenset(a for a in found if a in (Action.BLOCK, Action.WARN, Action.AUDIT))


def _plain(name: str) -> str:
    # ASCII only: lower() turns the Kelvin sign into k, and a look-alike must not pass for an action.
    return name.translate(_SPACING).lower() if name.isascii() else ""


@lru_cache(maxsize=512)
def resolve(
    kind: IndicatorType,
    requested: str,
    *,
    generate_alert: bool | None = None,
    convert: frozenset[Action] = frozenset(),
) -> Resolution | Problem:
    """The action to send for `requested` on `kind`, or why there is none.

    Args:
        requested: the action's name in any case; spaces, hyphens and underscores do not count.
        generate_alert: what the sender said, None when nothing.
        convert: actions that a certificate gets turned into BlockAndRemediate (see `parse_convert`).

    What does not fit the type becomes the nearest action that is not stronger, with a note; strength rises only for a
    certificate whose action is in `convert`. Whether Allowed may be asked for is the caller's to decide.
    """
    plain = _plain(requested.strip())
    wanted = _NAMES.get(plain)
    if wanted is None:
        return Problem(
            "unknown_action",
            f"action {shorten(requested)!r} is not known. Use Audit, Warn, Block or BlockAndRemediate.",
        )
    notes: list[str] = []
    action = wanted
    possible = MATRIX[kind]
    if action not in possible:
        if kind is IndicatorType.CERTIFICATE_THUMBPRINT and action in convert:
            action = Action.BLOCK_AND_REMEDIATE
            notes.append(f"{wanted} became BlockAndRemediate, as the setting RELAY_CERTIFICATE_CONVERT asks")
        else:
            weaker = [a for a in possible if a in STRENGTH and STRENGTH[a] < STRENGTH[action]]
            if not weaker:
                return Problem(
                    "action_not_for_type",
                    f"action {wanted} does not exist for {kind}. Ask for BlockAndRemediate, or name {wanted} in the "
                    "setting RELAY_CERTIFICATE_CONVERT to have it turned into BlockAndRemediate.",
                )
            action = max(weaker, key=STRENGTH.__getitem__)
            notes.append(f"{wanted} became {action}: {kind} does not support {wanted}")
    alert = bool(generate_alert)
    if plain in _LEGACY:
        alert = True
        legacy = "Alert" if plain == "alert" else "AlertAndBlock"
        notes.insert(0, f"the retired action {legacy} became {wanted} with generateAlert true")
    elif action is Action.AUDIT and not alert:
        alert = True
        if generate_alert is False:
            notes.append("generateAlert became true: Audit requires it")
    return Resolution(action, alert, tuple(notes))
