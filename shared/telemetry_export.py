"""Hands the metrics to OpenTelemetry, and with it to Application Insights when its connection string is set.

The SDKs take about a second to import, so a background thread does it some seconds after the start; the counts are read
from the registry, so nothing of the time before is missing.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from shared.telemetry import COUNTERS, GAUGES, HISTOGRAMS, Metrics, get_logger, log_event

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader

CONNECTION_STRING = "APPLICATIONINSIGHTS_CONNECTION_STRING"
_EVERY = 60.0
_DELAY = 5.0


def start_export(metrics: Metrics, environ: Mapping[str, str] | None = None, *, delay: float = _DELAY) -> bool:
    """Begin to export in the background; False, and nothing happens, without APPLICATIONINSIGHTS_CONNECTION_STRING.

    With APPLICATIONINSIGHTS_AUTHENTICATION_STRING (`ClientId=...;Authorization=AAD`) the exporter signs in with the
    managed identity. delay: seconds before anything is imported, so that the start and the first call go first.
    """
    environ = os.environ if environ is None else environ
    connection_string = environ.get(CONNECTION_STRING, "").strip()
    if not connection_string:
        return False
    thread = threading.Thread(
        target=_export, args=(metrics, connection_string, delay), name="telemetry-export", daemon=True
    )
    thread.start()
    return True


def _export(metrics: Metrics, connection_string: str, delay: float) -> None:
    threading.Event().wait(delay)
    try:
        provide(metrics, application_insights(connection_string))
    except Exception as error:
        # Whatever is wrong with telemetry, publishing goes on; the log says what is missing.
        log_event(get_logger("telemetry"), logging.ERROR, "telemetry_export_failed", error=f"{type(error).__name__}")


def application_insights(connection_string: str) -> MetricReader:
    """A reader that sends to Application Insights once a minute. Raises ValueError for a bad connection string."""
    # The exporter's reports about itself: two kinds go to hosts that the operator has not named, the third costs a
    # thread and the operator's money. Whoever wants them sets these to false.
    for name in ("STATSBEAT_DISABLED_ALL", "CONTROLPLANE_DISABLED", "SDKSTATS_DISABLED"):
        os.environ.setdefault(f"APPLICATIONINSIGHTS_{name}", "true")
    from azure.monitor.opentelemetry.exporter import AzureMonitorMetricExporter
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    # Without offline storage: an instance's disk goes with it, and old metrics help nobody.
    exporter = AzureMonitorMetricExporter(connection_string=connection_string, disable_offline_storage=True)
    return PeriodicExportingMetricReader(exporter, export_interval_millis=_EVERY * 1000)


def provide(metrics: Metrics, reader: MetricReader) -> MeterProvider:
    """Connect `metrics` with an OpenTelemetry reader. Returns the provider, which must be shut down by whoever asks."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.resources import Resource

    resource = Resource.create(
        {
            "service.name": os.environ.get("WEBSITE_SITE_NAME", "defender-indicator-relay"),
            # Instances are counted by it. A process id would not do: it is the same in every container.
            "service.instance.id": os.environ.get("WEBSITE_INSTANCE_ID") or socket.gethostname(),
        }
    )
    provider = MeterProvider(metric_readers=[reader], resource=resource)
    _instruments(metrics, provider.get_meter("defender-indicator-relay"))
    return provider


def _instruments(metrics: Metrics, meter: Meter) -> None:
    from opentelemetry.metrics import Observation

    def counts(name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        return lambda _: [Observation(count, dict(labels)) for labels, count in metrics.totals(name).items()]

    def gauge(name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def read(_: CallbackOptions) -> Iterable[Observation]:
            value = metrics.gauge(name)
            return [] if value is None else [Observation(value)]

        return read

    for name, meaning in COUNTERS.items():
        meter.create_observable_counter(f"relay.{name}", callbacks=[counts(name)], description=meaning)
    for name, (meaning, unit) in GAUGES.items():
        meter.create_observable_gauge(f"relay.{name}", callbacks=[gauge(name)], unit=unit, description=meaning)
    instruments = {
        name: meter.create_histogram(
            f"relay.{name}", unit=unit, description=meaning, explicit_bucket_boundaries_advisory=bounds
        )
        for name, (meaning, unit, bounds) in HISTOGRAMS.items()
    }
    metrics.attach(lambda name, value: instruments[name].record(value))
