"""Role assignments are those of the table in docs/infrastructure.md: who, which role, on what."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest

from tests.infra.expanded import GROUP_ID, ROOT, SETS, Expanded, golden
from tests.infra.test_safety import _ROLES

_TABLE = "\n## Who may do what with data\n"


class Grant(NamedTuple):
    """One line of the table, or one assignment."""

    who: str
    role: str
    scope: str


def documented() -> set[Grant]:
    """The table; a row that names several queues, containers or tables is several."""
    text = (ROOT / "docs" / "infrastructure.md").read_text("utf-8").partition(_TABLE)[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+?) \| \*([^|*]+)\* \| ([^|]+?) \| ([^|]+?) \|$", text, flags=re.M)
    found = set()
    for who, role, scope, why in rows:
        assert why.strip()
        kind, names = scope.split(" `")[0], re.findall(r"`([\w-]+)`", scope)
        for name in names or [""]:
            found.add(Grant(who, role, f"{kind.removesuffix('s')} {name}" if name else kind))
    return found


def assigned(made: Expanded) -> set[Grant]:
    """The assignments of a deployment, in the words of the table."""
    found = set()
    for one in made.of("Microsoft.Authorization/roleAssignments"):
        scope = one["scope"].removeprefix(f"{GROUP_ID}/providers/")
        role = _ROLES[one["properties"]["roleDefinitionId"].rpartition("/")[2]]
        app = one["properties"]["principalId"].startswith("[reference(")
        who = (
            "the app" if app else "a sender" if role == "Storage Queue Data Message Sender" else "who writes the secret"
        )
        kinds = {"queues": "queue", "containers": "container", "tables": "table", "vaults": "vault"}
        parts = scope.split("/")
        if parts[-2] in ("queues", "containers", "tables"):
            assert parts[2] == made.outputs["storageAccountName"]
            where = f"{kinds[parts[-2]]} {parts[-1]}"
        elif parts[-2] == "storageAccounts":
            assert parts[-1] == made.outputs["hostStorageAccountName"], "the whole data account is nobody's"
            where = "host account"
        else:
            where = {"vaults": "vault", "components": "Application Insights"}[parts[-2]]
        found.add(Grant(who, role, where))
    return found


@pytest.mark.parametrize("name", SETS)
def test_each_assignment_is_in_the_table(name: str) -> None:
    made = assigned(golden(name))
    assert made <= documented()
    choices = {"a sender", "who writes the secret"}
    optional = {grant for grant in documented() if grant.who in choices or grant.scope == "vault"}
    assert documented() - made <= optional, "nothing of the table is missing but what is there by choice"


def test_everything_in_the_table_is_assigned_somewhere() -> None:
    assert documented() == set().union(*(assigned(golden(name)) for name in SETS))


def test_senders_reach_the_one_queue_and_nothing_else() -> None:
    production = golden("production")
    for one in production.of("Microsoft.Authorization/roleAssignments"):
        if not one["properties"]["principalId"].startswith("["):
            assert one["scope"].endswith("/queueServices/default/queues/indicators")
            assert (
                _ROLES[one["properties"]["roleDefinitionId"].rpartition("/")[2]] == "Storage Queue Data Message Sender"
            )
