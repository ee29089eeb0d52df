"""A double of the tenant: Entra, the managed identity endpoint, Key Vault and Defender's indicators API, over TLS.

`python -m local.tenant` runs it as a process; `running()` in a thread of a test. README.md tells the rest.
"""

from local.tenant.background import running
from local.tenant.client import AdminClient, RunningTenant

__all__ = ["AdminClient", "RunningTenant", "running"]
