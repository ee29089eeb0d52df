"""scripts/secret against doubles of Graph, Entra and a vault: overlapping, shown nowhere, and nothing left behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.deploying import DEPLOY, copy
from tests.support.fakecloud import Cloud

pytest_plugins = ["tests.support.deploy_fixtures"]


def test_rotation_overlaps_and_removes_only_its_own(
    cloud: Cloud, tenant: Path, run: Callable[..., Any], secret: Callable[..., Any]
) -> None:
    assert run(tenant, *DEPLOY)[0] == 0
    first = cloud.secrets[0]["keyId"]
    cloud.secrets.append(
        {"keyId": "theirs", "displayName": "made in the portal", "endDateTime": "2027-01-01T00:00:00Z"}
    )
    cloud.secrets[-1]["secretText"] = "x"
    cloud.requests.clear()
    status, said = secret("rotate", tenant, "--days", "30")
    assert status == 0, said
    assert cloud.secrets[0]["keyId"] == "theirs" and first not in [o["keyId"] for o in cloud.secrets]
    assert len(cloud.versions) == 2 and cloud.versions[-1]["value"] == cloud.secrets[-1]["secretText"]
    assert cloud.versions[-1]["attributes"]["exp"] < time.time() + 31 * 86400
    order = ["addPassword", "/oauth2/", "PUT /secrets", "removePassword"]
    places = [next(i for i, line in enumerate(cloud.requests) if word in line) for word in order]
    assert places == sorted(places), "made, tried, stored, and only then is the old one removed"
    assert "made in the portal" in said
    status, said = secret("rotate", tenant, "--keep-old")
    assert status == 0 and len(cloud.secrets) == 3 and "kept" in said
    status, said = secret("create", tenant)
    assert status == 0 and "Nothing was made" in said and len(cloud.versions) == 3


def test_a_secret_that_cannot_be_stored_is_removed_again(
    cloud: Cloud, tenant: Path, run: Callable[..., Any], secret: Callable[..., Any]
) -> None:
    assert run(tenant, *DEPLOY)[0] == 0
    before = [one["keyId"] for one in cloud.secrets]
    firewall = {"error": {"code": "Forbidden", "message": "no", "innererror": {"code": "ForbiddenByFirewall"}}}
    cloud.refusals["PUT /secrets"] = [(403, firewall)]
    status, said = secret("rotate", tenant)
    assert status == 1 and "does not let this machine in" in said and "was removed again" in said
    assert [one["keyId"] for one in cloud.secrets] == before and len(cloud.versions) == 1


def test_who_may_not_store_makes_no_secret(
    cloud: Cloud, tenant: Path, run: Callable[..., Any], secret: Callable[..., Any]
) -> None:
    assert run(tenant, *DEPLOY)[0] == 0
    cloud.refusals["GET /secrets"] = [(403, {"error": {"code": "Forbidden"}})]
    status, said = secret("rotate", tenant)
    assert status == 1 and "Key Vault Secrets Officer" in said and len(cloud.secrets) == 1
    cloud.refusals["GET /v1.0"] = [(403, {"error": {"message": "Insufficient privileges"}})]
    status, said = secret("rotate", tenant)
    assert status == 1 and "owner of the registration" in said and len(cloud.secrets) == 1


def test_what_a_broken_rotation_left_is_removed_by_the_next(
    cloud: Cloud, tenant: Path, run: Callable[..., Any], secret: Callable[..., Any]
) -> None:
    assert run(tenant, *DEPLOY)[0] == 0
    orphan = {"keyId": "orphan", "displayName": "scripts/secret 2026-11-01", "endDateTime": "2027-05-01T00:00:00Z"}
    cloud.secrets.append({**orphan, "secretText": "nobody knows it"})
    status, said = secret("rotate", tenant)
    assert status == 0 and len(cloud.secrets) == 1 and cloud.secrets[0]["secretText"] == cloud.versions[-1]["value"], (
        said
    )


def test_without_a_vault_or_a_registration_it_says_which_step_is_missing(
    cloud: Cloud, tenant: Path, tmp_path: Path, secret: Callable[..., Any]
) -> None:
    status, said = secret("create", tenant)
    assert status == 1 and "has no vault yet" in said and "scripts/deploy" in said
    status, said = secret("create", copy(tmp_path / "p", "production"))
    assert status == 1 and "works without a client secret" in said
