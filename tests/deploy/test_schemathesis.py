"""Requests that schemathesis makes up from our description: all are answered as described."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from deploy.app import make_app
from deploy.config import LimitsConfig, ServeConfig
from tests.deploy.serving import served
from tests.deploy.stub import Stub

schemathesis = pytest.importorskip("schemathesis", reason="pip install schemathesis")

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
]

ROUTES = [
    ("/health", "GET"),
    ("/ready", "GET"),
    ("/v1/models", "GET"),
    ("/v1/models/{id}", "GET"),
    ("/v1/chat/completions", "POST"),
    ("/v1/completions", "POST"),
]


@pytest.fixture(scope="module")
def described() -> Iterator[Any]:
    limits = LimitsConfig(requests_per_minute=10**6)
    with served(make_app(Stub(), ServeConfig(auth=False, limits=limits))) as url:
        yield schemathesis.openapi.from_url(f"{url}/openapi.json")


def test_every_route_is_described(described: Any) -> None:
    found = [operation.ok() for operation in described.get_all_operations()]
    assert sorted((o.path, o.method.upper()) for o in found) == sorted(ROUTES)


def try_out(operation: Any, *, valid: bool) -> None:
    """Fifty requests, as described or not."""
    mode = schemathesis.GenerationMode.POSITIVE if valid else schemathesis.GenerationMode.NEGATIVE
    schemathesis.checks.load_all_checks()
    checks = schemathesis.checks.CHECKS.get_by_names(CHECKS)

    @settings(
        max_examples=50,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        case.call_and_validate(checks=checks)

    ask()


@pytest.mark.parametrize(("path", "method"), ROUTES)
def test_requests_as_described_are_answered_as_described(
    described: Any, path: str, method: str
) -> None:
    try_out(described[path][method], valid=True)


@pytest.mark.parametrize(("path", "method"), [route for route in ROUTES if "POST" in route])
def test_other_requests_are_refused_as_described(described: Any, path: str, method: str) -> None:
    try_out(described[path][method], valid=False)
