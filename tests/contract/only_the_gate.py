"""Loaded before the app: behind every door stands a handler that tells who has come in, instead of the door's own.

What decides who comes in stays the product's: `functions.http.serve` and all it calls.
"""

from __future__ import annotations

from collections.abc import Callable

import azure.functions as func

from functions import http

_serve = http.serve


def serve(bp: func.Blueprint, name: str) -> Callable[[http.Handler], http.Handler]:
    """As the product's, with another handler."""
    register = _serve(bp, name)

    def instead(handler: http.Handler) -> http.Handler:
        async def reached(ask: http.Ask) -> http.Reply:
            caller = ask.caller
            told = {"kind": caller.kind, "id": caller.id, "name": caller.name, "roles": sorted(caller.roles)}
            return http.answer({"reached": name, "caller": told, "ownOnly": ask.own_only})

        reached.__name__ = handler.__name__
        register(reached)
        return handler

    return instead


http.serve = serve
