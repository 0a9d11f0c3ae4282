"""What the documentation says of each call: of use to whoever calls them all."""

from collections.abc import Iterator
from typing import Any

from tests.http.conftest import Service

# What a call needs beside its documented example.
PLACES = {
    "user_id": 1000,
    "slug": "AVITO_VOICE_MESSAGES",
    "key": "AVITO_VOICE_MESSAGES",
    "file_name": "0" * 64,
}
QUERIES = {
    "cancelRolloutStep": "?starts_at=2027-01-01T00:00:00Z",
    "followChanges": "?from=2026-11-01T00:00:00Z",
}
BODIES: dict[str, dict[str, Any]] = {
    "importMembers": {"content": b"1000\n", "headers": {"Content-Type": "text/csv"}},
}


def calls(description: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every call in the order of the page: group by group."""
    for tag in description["tags"]:
        for path, methods in description["paths"].items():
            for method, operation in methods.items():
                if operation["tags"] == [tag["name"]]:
                    yield method.upper(), path, operation


def success(operation: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """The status of a call that succeeds, and what it answers by media type."""
    ((status, response),) = [(int(s), r) for s, r in operation["responses"].items() if s < "300"]
    return status, response.get("content", {"": {}})


def example(operation: dict[str, Any]) -> dict[str, Any]:
    """The documented body of a call, if it has one."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    return {"json": content["examples"]["1"]["value"]} if content else {}


def calls_by_role(service: Service) -> list[tuple[str, str, str, dict[str, Any]]]:
    """Every documented call that takes a key: method, path, the role its description names, what it sends."""
    found = []
    for path, operations in service.client.get("/openapi.json").json()["paths"].items():
        for method, operation in operations.items():
            _, named, role = operation["description"].rstrip(".").rpartition("Role: ")
            if named:
                call = operation["operationId"]
                place = path.format(**PLACES) + QUERIES.get(call, "")
                found.append((method.upper(), place, role, BODIES.get(call) or example(operation)))
    assert len(found) >= 16
    return found
