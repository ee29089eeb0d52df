"""How the Azure SDKs are used here: their patience, their logs and the app's own managed identity."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from shared.settings import Settings

if TYPE_CHECKING:
    from azure.identity import ManagedIdentityCredential

# One more try and short limits: whoever waits for a token holds up a call, and deferral does the patient retrying.
PATIENCE: dict[str, Any] = {"retry_total": 1, "connection_timeout": 5, "read_timeout": 10}


def quiet_sdk_loggers() -> None:
    """Keep the SDKs' talk about requests out of the log, unless somebody has set a level for them on purpose.

    Bodies are never logged even then: no client here is built with `logging_enable`.
    """
    for name in ("azure", "msal", "urllib3"):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)


def managed_identity(settings: Settings) -> ManagedIdentityCredential:
    """The app's own identity: the user-assigned one that the settings name, or the system-assigned one.

    Built anew for each use: it is used about once an hour, and a token kept inside it cannot be taken back.
    """
    from azure.identity import ManagedIdentityCredential

    return ManagedIdentityCredential(client_id=settings.managed_identity_client_id or None, **PATIENCE)
