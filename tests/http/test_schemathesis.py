"""Requests made up from the description of the API break nothing, and are answered as it says."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from described import closed
from hypothesis import HealthCheck, settings
from schemathesis import checks
from schemathesis.specs.openapi import checks as openapi_checks

from aggregator.api.description import ROUTES
from aggregator.api.openapi import describe
from aggregator.api.request.media_type import NDJSON
from aggregator.app import create_app
from aggregator.config import load
from aggregator.pipeline.runner import PipelineSpec
from aggregator.plugins import Plugins
from events import event
from running import Service

HELD_TO = (
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
)


def _description() -> dict[str, Any]:
    configuration = load({"store": "memory:"}, {})
    plugins = Plugins.installed()
    left, _ = plugins.stages(PipelineSpec.parse(configuration.settings.pipeline), {})
    app = create_app(configuration, plugins)
    stages = [named.stage for named in left]
    return describe(app[ROUTES], stages, configuration.settings)


@schemathesis.serializer(*NDJSON, "*/*")
def as_lines(_: schemathesis.SerializationContext, value: object) -> bytes:
    """Text as it is; what is made up wrong on purpose as its JSON."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode(errors="surrogatepass")


API = schemathesis.openapi.from_dict(closed(_description()))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("service")) as service:
        service.start("--store", "memory:", "--on-invalid", "quarantine")
        service.publish([event("1"), event("1"), event("1", payload={}), event("2", source="")])
        yield service


# A stream never ends, so no answer of it could be looked at: test_stream.py is about it.
@API.exclude(path="/events/stream").parametrize()
@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_made_up_request_is_answered_as_described(
    case: schemathesis.Case, running: Service
) -> None:
    case.call_and_validate(base_url=running.url, checks=list(HELD_TO))
