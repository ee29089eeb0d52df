"""What a client needs to know of a running stack, as data and as text with sample calls."""

from __future__ import annotations

import shlex
from typing import Any

from local.stack import Stack
from shared.storage.connection import QUEUE


def describe(stack: Stack) -> dict[str, Any]:
    """URLs, keys and ids. All secrets in it are throw-away: they die with the stack."""
    double = stack.tenant
    return {
        "app_url": stack.url,
        "function_key": stack.keys["host"],
        "master_key": stack.keys["master"],
        "storage_connection_string": stack.connection_string,
        "queue": QUEUE,
        "entra_url": double["entra"],
        "graph_url": double["graph"],
        "vault_url": double["vault"],
        "defender_url": double["defender"],
        "admin_url": double["admin"],
        "ca_file": double["ca_file"],
        "tenant_id": double["tenant_id"],
        "app_client_id": double["client_id"],
        "api_client_id": double["api_client_id"],
        "easy_auth": stack.options.easy_auth,
        "direct_client_id": double["direct_client_id"],
        "direct_client_secret": double["direct_client_secret"],
        "logs": str(stack.logs),
    }


def as_text(about: dict[str, Any]) -> str:
    """For people: the same, and calls to copy."""
    url, key = about["app_url"], about["function_key"]
    body = '{"indicators":[{"indicatorValue":"198.18.7.7","action":"Audit","title":"From the command line"}]}'
    message = '{"indicatorValue":"evil.example.com","action":"Audit","title":"From the queue"}'
    rows = "\n".join(f"  {name.replace('_', ' '):<26}{value}" for name, value in about.items())
    storage = shlex.quote(about["storage_connection_string"])
    token = f"{about['entra_url']}/{about['tenant_id']}/oauth2/v2.0/token"
    header, powershell = f"'x-functions-key: {key}'", f"'x-functions-key' = '{key}'"
    first = ""
    if about["easy_auth"]:
        header, powershell = '"authorization: Bearer $CALLER"', 'authorization = "Bearer $caller"'
        wanted = '{"roles":["Submissions.Write","Indicators.Read","Operations.Manage"]}'
        read = "import json, sys; print(json.load(sys.stdin)['token'])"
        first = f"""
App Service authentication is on: a caller's token, from the tenant double
  CALLER=$(curl -s '{about["admin_url"]}/_admin/caller-token' -d '{wanted}' | python3 -c "{read}")
"""
    return f"""
The local stack is running. Everything listens on 127.0.0.1 and is gone when it ends.

{rows}
{first}
curl: is it healthy; publish one; ask what became of it
  curl -s '{url}/api/health' -H {header}
  curl -si '{url}/api/submissions?wait=30' -H {header} -H 'content-type: application/json' \\
    -d '{body}'
  curl -s '{url}/api/submissions/ID' -H {header}

PowerShell: the same
  $key = @{{ {powershell} }}
  Invoke-RestMethod '{url}/api/submissions?wait=30' -Method Post -Headers $key -ContentType application/json `
    -Body '{body}'

az: by the queue, as a playbook or Logic App does
  az storage message put --queue-name {about["queue"]} --connection-string {storage} \\
    --content '{message}'

A Defender client of yours, directly: token, then the API
  curl -s --cacert '{about["ca_file"]}' '{token}' \\
    -d grant_type=client_credentials -d client_id={about["direct_client_id"]} \\
    -d client_secret='{about["direct_client_secret"]}' \\
    -d scope=https://api.securitycenter.microsoft.com/.default
  curl -s --cacert '{about["ca_file"]}' '{about["defender_url"]}/api/indicators' -H "authorization: Bearer $TOKEN"
"""
