"""The documentation: complete, consistent, and without any internet."""

import re
from collections.abc import Iterator
from html import escape
from typing import Any

from service.docs.openapi import EXAMPLE
from service.errors import KINDS
from tests.http.conftest import Api, Service


def operations(description: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All calls of an OpenAPI description."""
    for path in description["paths"].values():
        yield from path.values()


def test_the_description_is_open_to_all(service: Service) -> None:
    response = service.client.get("/openapi.json")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    description = response.json()
    assert description["openapi"].startswith("3.1")
    assert description["info"]["title"]
    assert description["info"]["description"]


def test_every_call_is_described(service: Service) -> None:
    description = service.client.get("/openapi.json").json()
    tags = {tag["name"] for tag in description["tags"] if tag["description"]}
    ids = []
    for operation in operations(description):
        assert operation["summary"]
        assert operation["description"]
        assert set(operation["tags"]) <= tags
        ids.append(operation["operationId"])
        for parameter in operation.get("parameters", []):
            assert parameter["description"]
            assert parameter["schema"]["type"]
    assert len(ids) == len(set(ids))


def test_every_error_is_described_as_a_problem(service: Service) -> None:
    for operation in operations(service.client.get("/openapi.json").json()):
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                (media_type,) = response["content"]
                if operation["tags"] == ["OpenFeature"] and status not in ("401", "403"):
                    # The protocol has a shape of its own.
                    assert media_type == "application/json"
                    assert response["content"][media_type]["schema"]["$ref"].endswith("/FlagFailure")
                    continue
                assert media_type == "application/problem+json"
                assert response["content"][media_type]["schema"]["$ref"].endswith("/ProblemDetails")
                assert response["description"]


def test_every_answer_has_a_schema_and_every_reference_leads_somewhere(service: Service) -> None:
    response = service.client.get("/openapi.json")
    description = response.json()
    for operation in operations(description):
        for status, answer in operation["responses"].items():
            assert status in ("204", "304") or answer["content"]
    for name in re.findall(r'"#/components/schemas/([^"]+)"', response.text):
        assert description["components"]["schemas"][name]["properties"]


def test_calls_need_a_key_unless_they_say_so(service: Service) -> None:
    description = service.client.get("/openapi.json").json()
    assert description["security"] == [{"apiKey": []}]
    assert description["components"]["securitySchemes"]["apiKey"]["scheme"] == "bearer"
    unlocked = {
        operation["operationId"] for operation in operations(description) if operation.get("security") == [{}]
    }
    assert unlocked == {"getLive", "getReady", "getReport"}


def test_the_page_and_all_it_needs_come_from_the_service(service: Service) -> None:
    page = service.client.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    needed = re.findall(r'(?:src|href|url)(?:=|: )"([^"]*)"', page.text)
    assert len(needed) == 4
    for url in needed:
        assert url.startswith("data:image/svg+xml;base64,") or service.client.get(url).status_code == 200
    assert "//" not in page.text


def test_pictures_come_from_the_service(service: Service) -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", service.client.get("/openapi.json").text)
    assert pictures == ["/docs/growth.svg"]
    for picture in pictures:
        response = service.client.get(picture)
        assert (response.status_code, response.headers["content-type"]) == (200, "image/svg+xml")
        assert response.content.startswith(b"<svg ")


def test_the_type_of_every_problem_leads_to_its_explanation(service: Service) -> None:
    page = service.client.get("/docs/errors").text
    for kind in KINDS:
        assert f'id="{kind.code}"' in page
    assert len({kind.code for kind in KINDS}) == len(KINDS) >= 19


def test_the_error_shown_is_a_real_one(admin: Api) -> None:
    refused = admin.send("PATCH", "/v1/users/1000/segments", json={"add": ["NOPE"]})
    assert refused.text == EXAMPLE
    assert escape(EXAMPLE) in admin.send("GET", "/docs/errors").text
