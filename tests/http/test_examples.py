"""The examples of the documentation work, one after the other, and the answers shown are what they are answered.

After a change, RENEW_ANSWERS=1 make test ARGS=tests/http/test_examples.py writes service/docs/answers.json anew.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from service.docs import openapi
from tests.conftest import Clock, Database
from tests.expect import salts_from_slugs
from tests.http.conftest import Service
from tests.http.documented import calls, success

ANSWERS = Path(openapi.__file__).with_name("answers.json")
# Its numbers differ at each call.
NOT_SHOWN_IN_FULL = {"getMetrics"}


def normal(answer: Any) -> Any:
    """An answer, without what differs at each call."""
    text = json.dumps(answer)
    text = re.sub(r"/v1/reports/[\w-]+\.csv", "/v1/reports/5TfTgYnQm0xq1WmHnJk2vA.csv", text)
    return json.loads(re.sub(r"(?<=\()[0-9a-f]{12}(?=\))", "2b3613d68ee4", text))


@pytest.fixture
def description(serve: Callable[..., Service], db: Database, clock: Clock) -> Iterator[dict[str, Any]]:
    """The description, with the answers to its own examples in its place: given[operationId][media type]."""
    salts_from_slugs(db)
    service = serve(public_url="http://127.0.0.1:8080")
    admin = service.with_key(service.key("admin", "admin"))
    described = deepcopy(service.client.app.state.openapi.schema)
    db.rows("call sweep()")
    known: dict[str, str] = {}
    described["given"] = {}
    for method, path, operation in calls(described):
        status, content = success(operation)
        examples = {p["name"]: p["example"] for p in operation.get("parameters", []) if "example" in p}
        url = path.format(**examples, **known)
        query = {name: value for name, value in examples.items() if "{" + name + "}" not in path}
        kwargs: dict[str, Any] = {"params": query} if query else {}
        for media_type, body in operation.get("requestBody", {}).get("content", {}).items():
            value = next(iter(body["examples"].values()))["value"]
            kwargs["content"] = value if isinstance(value, str) else json.dumps(value)
            kwargs["headers"] = {"Content-Type": media_type}
        for media_type in content:
            clock.advance(seconds=1)
            headers = {**kwargs.pop("headers", {}), **({"Accept": media_type} if media_type else {})}
            response = admin.send(method, url, headers=headers, **kwargs)
            assert response.status_code == status, (operation["operationId"], response.text)
            if media_type:
                assert response.headers["content-type"].partition(";")[0] == media_type
                answer = response.json() if media_type == "application/json" else response.text
                described["given"].setdefault(operation["operationId"], {})[media_type] = answer
                if operation["operationId"] == "createReport":
                    known["file_name"] = answer["url"].rpartition("/")[2]
            else:
                assert response.content == b""
    yield described


def test_the_answers_shown_are_those_given(description: dict[str, Any]) -> None:
    given = {
        operation: normal(answer)
        for operation, answer in description["given"].items()
        if operation not in NOT_SHOWN_IN_FULL
    }
    if os.environ.get("RENEW_ANSWERS"):
        ANSWERS.write_text(json.dumps(given, indent=1) + "\n")
    assert normal(json.loads(ANSWERS.read_text())) == given


def test_every_answer_is_shown(description: dict[str, Any]) -> None:
    for _, _, operation in calls(description):
        for media_type, content in success(operation)[1].items():
            if media_type and operation["operationId"] not in NOT_SHOWN_IN_FULL:
                assert normal(content["example"]) == normal(
                    description["given"][operation["operationId"]][media_type]
                )


def test_every_metric_shown_is_one(description: dict[str, Any]) -> None:
    given = description["given"]["getMetrics"]["text/plain"]
    content = description["paths"]["/metrics"]["get"]["responses"]["200"]["content"]["text/plain"]
    (example,) = content["examples"].values()
    for line in example["value"].splitlines():
        assert f"\n{line.partition('{')[0].partition(' ')[0]}" in given


def test_every_call_and_every_body_has_an_example(description: dict[str, Any]) -> None:
    for _, path, operation in calls(description):
        for parameter in operation.get("parameters", []):
            if parameter["required"] and parameter["name"] != "file_name":
                assert "example" in parameter, (path, parameter["name"])
        for body in operation.get("requestBody", {}).get("content", {}).values():
            assert all(example["summary"] for example in body["examples"].values())
