"""docs/access.md tells the table of functions/routes.py, whole and as it is."""

from __future__ import annotations

import re
from pathlib import Path

from functions.routes import TABLE, Entry
from shared.identity.caller import Role

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "access.md").read_text("utf-8")
ORDER = (Role.SUBMIT, Role.READ, Role.OPERATE, Role.OVERRIDE, Role.ALLOW)


def row(entry: Entry) -> list[str]:
    """What the row of a route must say."""
    told = {True: "own" if entry.own else "yes", False: ""}
    cells = [told[role in entry.roles] if role is Role.SUBMIT else "yes" * (role in entry.roles) for role in ORDER]
    return [f"`{entry.method} /api/{entry.path}`", entry.level, *cells]


def test_every_route_with_its_key_and_its_roles() -> None:
    head = ["route", "key", *(f"`{role}`" for role in ORDER)]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line[:2] == "| "]
    assert head in rows
    written = [cells for cells in rows if re.match(r"`(GET|POST|PUT|PATCH|DELETE) /api/", cells[0])]
    assert sorted(written) == sorted(row(entry) for entry in TABLE)


def test_every_role_is_explained() -> None:
    assert set(re.findall(r"^\| `([A-Z]\w+\.[A-Z]\w+)` \| \w", TEXT, flags=re.M)) == {role.value for role in Role}
