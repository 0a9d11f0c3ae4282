"""The documentation: complete, consistent, and without any internet."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from html import escape
from typing import Any
from urllib.parse import urljoin

import pytest
from openapi_spec_validator import validate

from service import __version__
from service.docs.openapi import EXAMPLE, FILES, in_month
from service.errors import KINDS
from tests.http.conftest import Api, Service

Description = dict[str, Any]


@pytest.fixture
def description(service: Service) -> Description:
    """The OpenAPI description."""
    found: Description = service.client.get("/openapi.json").json()
    return found


def operations(description: Description) -> Iterator[tuple[str, dict[str, Any]]]:
    """The path of each call, and the call."""
    for path, calls in description["paths"].items():
        for operation in calls.values():
            yield path, operation


def answer(description: Description, response: dict[str, Any]) -> dict[str, Any]:
    """What a response says, be it here or among those that calls share."""
    shared: str = response.get("$ref", "")
    return description["components"]["responses"][shared.rpartition("/")[2]] if shared else response


def test_the_description_is_valid_and_open_to_all(service: Service) -> None:
    response = service.client.get("/openapi.json")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    description = response.json()
    validate(description)
    assert description["openapi"].startswith("3.1")
    assert description["info"]["version"] == __version__
    assert description["info"]["license"]["identifier"] == "MIT"
    assert description["servers"][0]["url"] == "/"
    assert service.client.get("/docs/openapi.json").json() == description


def test_every_call_is_described(description: Description) -> None:
    tags = {tag["name"] for tag in description["tags"] if tag["description"]}
    ids = []
    for _, operation in operations(description):
        assert operation["summary"]
        assert operation["description"]
        assert set(operation["tags"]) <= tags
        ids.append(operation["operationId"])
        for parameter in operation.get("parameters", []):
            assert parameter["description"]
            assert parameter["schema"]["type"]
    assert len(ids) == len(set(ids))


def test_every_error_is_described_as_a_problem(description: Description) -> None:
    for path, operation in operations(description):
        errors = {status: r for status, r in operation["responses"].items() if status >= "400"}
        assert min(errors) < "500"
        for status, response in errors.items():
            error = answer(description, response)
            (media_type,) = error["content"]
            schema = error["content"][media_type]["schema"]["$ref"].rpartition("/")[2]
            assert error["description"]
            # OpenFeature's protocol has a shape of its own.
            own = path.startswith("/ofrep/") and status not in ("401", "403")
            assert (media_type, schema) == (
                ("application/json", "FlagFailure") if own else ("application/problem+json", "ProblemDetails")
            )


def test_the_errors_of_a_call_are_those_of_its_kind(description: Description) -> None:
    def errors(method: str, path: str) -> str:
        found = description["paths"][path][method]["responses"]
        return " ".join(status for status in found if status >= "400")

    assert errors("get", "/health/live") == "400 500"
    assert errors("get", "/metrics") == "400 401 403 429 500 503"
    assert errors("get", "/v1/users/{user_id}/segments") == "400 401 403 422 429 500 503 504"
    assert errors("get", "/v1/segments/{slug}") == "400 401 403 404 422 429 500 503 504"
    assert errors("post", "/v1/users/segments") == "400 401 403 413 415 422 429 500 503 504"
    assert errors("post", "/v1/segments") == "400 401 403 409 413 415 422 429 500 503 504"
    assert errors("get", "/v1/reports/{file_name}") == "400 404 422 500 503 504"
    assert errors("post", "/ofrep/v1/evaluate/flags") == "400 401 403 429 500"


def test_every_answer_has_a_schema_and_every_reference_leads_somewhere(service: Service) -> None:
    response = service.client.get("/openapi.json")
    description = response.json()
    for _, operation in operations(description):
        for status, given in operation["responses"].items():
            assert status in ("204", "304") or answer(description, given)["content"]
    for name in re.findall(r'"#/components/schemas/([^"]+)"', response.text):
        assert description["components"]["schemas"][name]["properties"]
    assert '"oneOf":[{"$ref"' not in re.sub(r"\},\{.*?\]", "", response.text)


def test_generated_clients_know_what_may_be_chosen(description: Description) -> None:
    found = {
        p["name"]: p["schema"]
        for p in description["paths"]["/v1/segments/{slug}/members"]["post"]["parameters"]
    }
    assert found["operation"]["enum"] == ["add", "remove", "replace"]
    assert found["ttl_seconds"]["type"] == "integer"
    headers = description["paths"]["/v1/segments"]["post"]["responses"]["201"]["headers"]
    assert headers["Location"]["schema"] == {"type": "string"}


def test_each_parameter_is_described_by_its_own_words(description: Description) -> None:
    pages = {
        (path, parameter["name"]): (parameter["description"], parameter["schema"].get("default"))
        for path, operation in operations(description)
        if operation["operationId"] in ("listSegments", "listMembers")
        for parameter in operation["parameters"]
        if parameter["name"] in ("after", "limit")
    }
    assert pages == {
        ("/v1/segments", "after"): ("Slugs after this one", None),
        ("/v1/segments", "limit"): ("At most so many: 1 to 1000", 100),
        ("/v1/segments/{slug}/members", "after"): ("Ids above this one", 0),
        ("/v1/segments/{slug}/members", "limit"): ("At most so many on a page: 1 to 10000", 100),
    }


def test_calls_need_a_key_unless_they_say_so(description: Description) -> None:
    assert description["security"] == [{"apiKey": []}]
    # One way to say it: whoever tries the page cannot choose a wrong one.
    (scheme,) = description["components"]["securitySchemes"].values()
    assert scheme["scheme"] == "bearer"
    unlocked = {
        operation["operationId"]
        for _, operation in operations(description)
        if operation.get("security") == [{}]
    }
    assert unlocked == {"getLive", "getReady", "getReport"}


@pytest.mark.parametrize("month", range(1, 13))
def test_the_examples_are_of_this_month_and_plan_for_the_next(month: int) -> None:
    first, following = date(2027, month, 1), date(2027 + month // 12, month % 12 + 1, 1)
    moved = in_month(b'"2026-11" "2026-11-20T12:00:00Z" "2026-12-01T00:00:00Z"', first).decode()
    assert moved == f'"{first:%Y-%m}" "{first:%Y-%m}-20T12:00:00Z" "{following:%Y-%m}-01T00:00:00Z"'


def test_the_description_is_of_this_month_and_made_once_for_it(service: Service) -> None:
    text = service.client.get("/openapi.json").text
    assert f"{datetime.now(UTC):%Y-%m}-01T00:00:00Z" in text
    made = service.client.app.state.openapi.of_month
    assert made(date(2027, 1, 1)) is made(date(2027, 1, 1))
    # There is no such day in some months.
    days = re.findall(r"20\d\d-\d\d-(\d\d)", text)
    assert len(days) > 20
    assert max(days) <= "28"


def test_the_page_and_all_it_needs_come_from_the_service(service: Service) -> None:
    for page, number in (("/docs", 5), ("/docs/errors", 3)):
        response = service.client.get(page)
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'self';")
        assert "script-src" not in policy
        needed = re.findall(r'(?:src|href)="([^"]*)"', response.text)
        assert len(needed) == number
        for link in needed:
            url = urljoin(page, link)
            # A proxy may serve the page under a path.
            assert not link.startswith("/")
            assert url.startswith("/docs")
            assert service.client.get(url).status_code == 200


def test_what_the_introduction_names_is_there(service: Service) -> None:
    text = service.client.get("/openapi.json").json()["info"]["description"]
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^#)][^)]*)\)", text)]
    assert {"docs/README.md", "docs/CHANGELOG.md", "docs/grafana.json", "docs/alerts.yaml"} <= set(links)
    for link in links:
        assert service.client.get(f"/{link}").status_code == 200
    (picture,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", service.client.get("/openapi.json").text)
    response = service.client.get(f"/{picture}")
    assert (response.status_code, response.headers["content-type"]) == (200, "image/svg+xml")


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/docs/errors", *FILES])
def test_each_file_is_sent_compressed_and_only_once(service: Service, path: str) -> None:
    plain = service.client.get(path, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.headers["cache-control"] == "no-cache"
    assert plain.headers["vary"] == "Accept-Encoding"
    zipped = service.client.get(path, headers={"Accept-Encoding": "br, gzip"})
    assert zipped.headers["content-encoding"] == "gzip"
    assert zipped.content == plain.content
    assert int(zipped.headers["content-length"]) < max(700, int(plain.headers["content-length"]) * 0.6)
    for encoding in ("gzip;q=0", "br", "gzip; q=0.0, *", ""):
        refused = service.client.get(path, headers={"Accept-Encoding": encoding})
        assert "content-encoding" not in refused.headers
    again = service.client.get(path, headers={"If-None-Match": plain.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "name", ["nothing", "assets/%00", "%00", "%2e%2e/openapi.py", "a" * 300, "swagger-ui/LICENSE"]
)
def test_there_is_nothing_else(service: Service, name: str) -> None:
    assert service.client.get(f"/docs/{name}").status_code == 404


def test_the_type_of_every_problem_leads_to_its_explanation(service: Service) -> None:
    page = service.client.get("/docs/errors").text
    for kind in KINDS:
        assert f'id="{kind.code}"' in page
    assert len({kind.code for kind in KINDS}) == len(KINDS) >= 19


def test_the_error_shown_is_a_real_one(admin: Api) -> None:
    refused = admin.send("PATCH", "/v1/users/1000/segments", json={"add": ["NOPE"]})
    assert refused.text == EXAMPLE
    assert escape(EXAMPLE) in admin.send("GET", "/docs/errors").text


def test_the_bare_address_leads_to_the_page_and_browsers_find_an_icon(serve: Callable[..., Service]) -> None:
    client = serve().client
    for path in ("/", "/docs/"):
        response = client.get(path, follow_redirects=False)
        assert (response.status_code // 100, response.headers["location"]) == (3, "/docs")
    assert client.get("/").text == client.get("/docs").text
    assert client.get("/favicon.ico").headers["content-type"] == "image/svg+xml"
    below = serve(root_path="/seg").client
    for path in ("/seg", "/seg/", "/seg/docs/", "/"):
        assert below.get(path, follow_redirects=False).headers["location"] == "/seg/docs"
    assert below.get("/seg/openapi.json").json()["servers"][0]["url"] == "/seg/"
