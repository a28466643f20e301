"""The API's description: that it is one, and that the server does what it says, whoever asks."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from conftest import TARGET, Server
from hypothesis import HealthCheck, Phase, settings
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# Requests for each operation; MCPCTL_CASES asks for another number.
CASES = int(os.environ.get("MCPCTL_CASES", "5"))
# What would end the tests' own session, or throttle their logins.
LEFT_OUT = ["/api/v1/auth/logout", "/api/v1/auth/password"]

described = schemathesis.openapi.from_dict(
    json.loads(subprocess.run([TARGET / "mcpctl-server", "openapi"], check=True, capture_output=True).stdout)
)
described = described.exclude(path=LEFT_OUT)
generated = settings(
    max_examples=CASES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def test_it_is_openapi(server: Server) -> None:
    document = server.call("GET", "/openapi.json")
    OpenAPIV31SpecValidator(document).validate()
    printed = subprocess.run([TARGET / "mcpctl-server", "openapi"], check=True, capture_output=True).stdout
    assert json.loads(printed) == document


@pytest.fixture(scope="module")
def asked() -> Iterator[Counter[int]]:
    """How often each status was the answer; shown at the end (`pytest -s`)."""
    statuses: Counter[int] = Counter()
    yield statuses
    print(f"\n{statuses.total()} requests: {dict(sorted(statuses.items()))}")


def ask(case: Any, server: Server, token: str, asked: Counter[int]) -> None:
    # Else nearly every request would be refused for a user that nobody is.
    case.headers.pop("Impersonate-User", None)
    # Such an answer has no end.
    if case.query:
        case.query.pop("watch", None)
    headers = {"Authorization": f"Bearer {token}"}
    answer = case.call_and_validate(base_url=server.url, headers=headers, checks=CHECKS)
    asked[answer.status_code] += 1


@described.parametrize()
@generated
def test_an_admin_is_answered_as_it_says(case: Any, server: Server, admin: str, asked: Counter[int]) -> None:
    ask(case, server, admin, asked)


@described.parametrize()
@generated
def test_who_may_little_is_answered_as_it_says(
    case: Any, server: Server, token: str, asked: Counter[int]
) -> None:
    ask(case, server, token, asked)
