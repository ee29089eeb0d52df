"""Preloaded into the host double: a message, or an indicator in a call, that ends its worker's process at once.

Only workers of the queue die; the door that takes a submission lives.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

WHEN_DECODED = b"dies-when-decoded"
IN_A_CALL = "dies-in-a-call"

if any(argument.startswith("queue:") for argument in sys.argv):
    import shared.intake
    from shared.defender.client import DefenderClient

    _intake: Any = shared.intake
    _decode = _intake.decode
    _import = DefenderClient.import_indicators

    def _die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _decoding(body: bytes) -> Any:
        if WHEN_DECODED in body:
            _die()
        return _decode(body)

    def _importing(self: Any, payloads: Any, **options: Any) -> Any:
        if any(IN_A_CALL in payload["indicatorValue"] for payload in payloads):
            _die()
        return _import(self, payloads, **options)

    _intake.decode = _decoding
    DefenderClient.import_indicators = _importing  # type: ignore[method-assign]
