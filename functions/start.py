"""What happens once when the app is loaded: logging, the start-up line, export of metrics. No I/O, and no failure.

A wrong setting must not take the app down, or nobody could ask it what is wrong: /api/health and this line say it.
"""

from __future__ import annotations

import logging

from shared import telemetry
from shared.errors import SettingsError
from shared.health import start_up_line
from shared.settings import load
from shared.telemetry_export import start_export


def begin() -> None:
    """Configure telemetry and say in one log line what this app is set to."""
    log = telemetry.get_logger("start")
    try:
        settings = load()
    except SettingsError as error:
        telemetry.configure_logging()
        telemetry.log_event(log, logging.ERROR, "settings", detail=str(error), remedy=error.remediation)
        return
    telemetry.configure_logging(settings.log_level)
    telemetry.install_redaction()
    telemetry.log_event(log, logging.INFO, "start", detail=start_up_line(settings))
    start_export(telemetry.metrics())
