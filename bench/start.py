"""`start`: from a process's start to its first import call, telemetry configured, with a message waiting.

Limit: a process that does nothing but import the five SDKs. The worker's time holds the host double's own start too
(its HTTP server and the Functions runtime), as a worker's in Azure holds that of the runtime.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence

from bench.figure import Figure
from bench.run import Options, message, running, until
from local.processes import plain_environment
from local.workers import ROOT

SDKS = ("azure.identity", "azure.keyvault.secrets", "azure.storage.queue", "azure.storage.blob", "azure.data.tables")
HOST = "local.host.__main__"
# To a port of this machine on which nobody listens: what is exported is told to nobody.
TELEMETRY = "InstrumentationKey=00000000-0000-4000-8000-000000000001;IngestionEndpoint=https://127.0.0.1:9/"


def imports(modules: Sequence[str] = SDKS) -> float:
    """Seconds of a process that imports these and ends; the five SDKs unless told otherwise."""
    begun = time.monotonic()
    command = [sys.executable, "-P", "-c", "import " + ", ".join(modules)]
    # From the project's folder, as the workers are run: with -P that folder is not on the path by itself.
    environ = plain_environment() | {"PYTHONPATH": str(ROOT)}
    subprocess.run(command, env=environ, check=True, stdin=subprocess.DEVNULL)
    return time.monotonic() - begun


def measure(options: Options) -> list[Figure]:
    """Each round starts the worker anew on the same stack, and measures the imports right before and after."""
    imports()  # the disk's cache
    imports((HOST,))
    ratios, limits, times, rigs, own = [], [], [], [], []
    with running(settings={"APPLICATIONINSIGHTS_CONNECTION_STRING": TELEMETRY}) as here:
        worker = here.stack.queue_workers[0]
        here.warm()
        for turn in range(options.times(9)):
            here.stack.workers.hold(worker)
            here.empty()
            here.put([message(f"n{turn}.start.example")])
            first = imports()
            begun = time.time()
            here.stack.workers.resume(worker)
            until(lambda: bool(here.admin.imports()), "the first import call", 60, every=0.02)
            times.append(float(here.admin.imports()[0]["at"]) - begun)
            until(lambda: here.succeeded() >= 1, "the message is through", 60)
            limits.append(min(first, imports()))
            ratios.append(times[-1] / limits[-1])
            rigs.append(imports((HOST,)))
            own.append((times[-1] - rigs[-1]) / limits[-1])
    return [
        Figure(
            "process start to first import call, telemetry configured",
            "x",
            ratios,
            f"import of the five SDKs alone: {min(limits):.2f} to {max(limits):.2f} s",
            1.5,
            note=f"{min(times):.2f} to {max(times):.2f} s",
        ),
        Figure(
            "the same without what the host's double imports for itself",
            "x",
            own,
            f"the same; the double's own imports: {min(rigs):.2f} to {max(rigs):.2f} s",
        ),
    ]
