"""The running app's routes with a function key, for tests over HTTP."""

from __future__ import annotations

from typing import Any

import requests

from local.stack import Stack


class WebApp:
    """A session without a key, and `key`, the header with the host key."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.session = requests.Session()
        self.session.trust_env = False
        self.key = {"x-functions-key": stack.keys["host"]}

    def url(self, path: str) -> str:
        """The URL of a path behind the route prefix; a URL stays what it is."""
        return path if path.startswith("http") else f"{self.stack.url}/api/{path}"

    def get(self, path: str, accept: str = "*/*", **query: Any) -> requests.Response:
        """GET with the key."""
        headers = self.key | {"Accept": accept}
        return self.session.get(self.url(path), params=query or None, headers=headers, timeout=180)
