"""A session on a running tenant double, as somebody else's Defender client would open it."""

from __future__ import annotations

from typing import Any

import requests

from local.tenant import RunningTenant

RESOURCE = "https://api.securitycenter.microsoft.com"


def token(tenant: RunningTenant, who: str = "direct", resource: str = RESOURCE) -> str:
    """A token of the direct client or of the relay, by client secret."""
    client, secret = {
        "direct": (tenant.direct_client_id, tenant.direct_client_secret),
        "relay": (tenant.client_id, tenant.client_secret),
    }[who]
    answer = ask_token(tenant, client_id=client, client_secret=secret, scope=f"{resource}/.default")
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


def ask_token(tenant: RunningTenant, where: str = "", **form: str) -> requests.Response:
    """One request to the token endpoint."""
    url = f"{tenant.entra}/{where or tenant.tenant_id + '/oauth2/v2.0/token'}"
    return requests.post(url, data={"grant_type": "client_credentials", **form}, verify=tenant.ca_file, timeout=30)


class Client:
    """Calls on the indicators API with a token."""

    def __init__(self, tenant: RunningTenant, who: str = "direct", resource: str = RESOURCE) -> None:
        self.base = f"{tenant.defender}/api/indicators"
        self.session = requests.Session()
        self.session.trust_env = False  # REQUESTS_CA_BUNDLE would win over the session's own CA file
        self.session.verify = tenant.ca_file
        self.session.headers["Authorization"] = f"Bearer {token(tenant, who, resource)}"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def __call__(self, method: str, path: str = "", **options: Any) -> requests.Response:
        return self.session.request(method, self.base + path, timeout=30, **options)

    def send(self, *items: dict[str, Any]) -> requests.Response:
        """Import."""
        return self("POST", "/import", json={"Indicators": list(items)})

    def put(self, **given: Any) -> dict[str, Any]:
        """Submit one that must be taken."""
        answer = self("POST", json=item(**given))
        assert answer.status_code == 200, answer.text
        content: dict[str, Any] = answer.json()
        return content

    def values(self, query: str = "") -> list[str]:
        """The values in a list."""
        return [row["indicatorValue"] for row in self("GET", query).json()["value"]]


def item(value: str = "8.8.8.8", kind: str = "IpAddress", action: str = "Block", **more: Any) -> dict[str, Any]:
    """One indicator in the API's own words."""
    return {"indicatorValue": value, "indicatorType": kind, "action": action, "title": "t", "description": "d", **more}


def many(count: int) -> list[dict[str, Any]]:
    """So many different ones."""
    return [item(f"{number:064x}", "FileSha256") for number in range(count)]


def said(answer: requests.Response) -> tuple[int, str, str]:
    """Status, code and message of an error."""
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "target"}
    return answer.status_code, error["code"], error["message"]
