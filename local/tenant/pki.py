"""The throw-away certificate authority: made anew at each start, trusted by whoever is given its file."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme


def issue(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """Write the CA's certificate to `folder` and return its path and a server context for the loopback names.

    The private keys never leave memory, but for the moment in which the ssl module loads the server key from a file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA(organization_name="Local tenant double")
    ca_file = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1", "::1").configure_cert(context)
    return ca_file, context
