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


def holder(principal: str, role: str) -> str:
    """Who it is, in the words of the table."""
    if "/workflows/logic-" in principal:
        return "the playbook that queues"
    if "-playbook'" in principal:
        return "the playbooks over HTTP"
    if principal.startswith("[reference("):
        return "the app"
    others = {
        "Storage Queue Data Message Sender": "a sender",
        "Key Vault Secrets Officer": "who writes the secret",
        "Microsoft Sentinel Automation Contributor": "Sentinel",
    }
    return others[role]


def assigned(made: Expanded) -> set[Grant]:
    """The assignments of a deployment, in the words of the table."""
    found = set()
    for one in made.of("Microsoft.Authorization/roleAssignments"):
        scope = one.get("scope", GROUP_ID).removeprefix(f"{GROUP_ID}/providers/")
        role = _ROLES[one["properties"]["roleDefinitionId"].rpartition("/")[2]]
        who = holder(one["properties"]["principalId"], role)
        if scope == GROUP_ID:
            found.add(Grant(who, role, "the resource group"))
            continue
        if scope.endswith("/workspaces/log-sentinel"):
            found.add(Grant(who, role, "the workspace with Sentinel"))
            continue
        kinds = {"queues": "queue", "containers": "container", "tables": "table", "vaults": "vault"}
        parts = scope.split("/")
        if parts[-2] in ("queues", "containers", "tables"):
            assert parts[2] == made.outputs["storageAccountName"]
            where = f"{kinds[parts[-2]]} {parts[-1]}"
        elif parts[-2] == "storageAccounts":
            accounts = {"hostStorageAccountName": "host account", "storageAccountName": "data account"}
            where = next(words for name, words in accounts.items() if parts[-1] == made.outputs[name])
        else:
            where = {"vaults": "vault", "components": "Application Insights"}[parts[-2]]
        found.add(Grant(who, role, where))
    return found


@pytest.mark.parametrize("name", SETS)
def test_each_assignment_is_in_the_table(name: str) -> None:
    made = assigned(golden(name))
    assert made <= documented()
    optional = {grant for grant in documented() if grant.who != "the app" or grant.scope == "vault"}
    assert documented() - made <= optional, "nothing of the table is missing but what is there by choice"


def test_everything_in_the_table_is_assigned_somewhere() -> None:
    assert documented() == set().union(*(assigned(golden(name)) for name in SETS))


def test_senders_reach_the_one_queue_and_nothing_else() -> None:
    found = assigned(golden("production"))
    senders = {grant for grant in found if grant.who in ("a sender", "the playbook that queues")}
    assert {grant.who for grant in senders} == {"a sender", "the playbook that queues"}
    assert {(grant.role, grant.scope) for grant in senders} == {
        ("Storage Queue Data Message Sender", "queue indicators")
    }
