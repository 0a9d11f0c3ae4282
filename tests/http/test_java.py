"""The HttpClient that comes with Java does every write: it offers HTTP/2 by an upgrade, with the body."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.conftest import Database
from tests.launcher import Server


def test_every_write_by_the_client_of_the_jdk(run_server: Callable[..., Server], db: Database) -> None:
    server = run_server()
    key = db.value("select create_api_key('java', 'admin')")
    program = Path(__file__).with_name("Writes.java")
    done = subprocess.run(
        ["java", str(program), server.url, key], capture_output=True, text=True, timeout=120, check=True
    )
    lines = [line.split(" ", 3) for line in done.stdout.splitlines()]
    # Each is sent by HTTP/1.1 and with an offer of HTTP/2, and done once.
    assert [(status, method, path) for status, method, path, _ in lines[::2]] == [
        ("201", "POST", "/v1/segments"),
        ("200", "PATCH", "/v1/segments/JAVA"),
        ("200", "PUT", "/v1/segments/JAVA/rollout"),
        ("200", "DELETE", "/v1/segments/JAVA/rollout?starts_at=2099-01-01T00:00:00Z"),
        ("204", "PUT", "/v1/users/7"),
        ("200", "PATCH", "/v1/users/7/segments"),
        ("200", "POST", "/v1/segments/JAVA/members"),
        ("200", "POST", "/v1/users/segments"),
        ("201", "POST", "/v1/reports"),
        ("200", "POST", "/ofrep/v1/evaluate/flags/JAVA"),
        ("204", "DELETE", "/v1/users/8"),
        ("204", "DELETE", "/v1/segments/JAVA"),
    ]
    assert [line[:3] for line in lines[1::2]] == [line[:3] for line in lines[::2]]
    answers = {f"{method} {path}": body for _, method, path, body in lines[1::2]}
    assert json.loads(answers["PATCH /v1/users/7/segments"])["added"] == ["JAVA"]
    imported = json.loads(answers["POST /v1/segments/JAVA/members"])
    assert (imported["received"], imported["changed"]) == (100_000, 2)
    found = json.loads(answers["POST /v1/users/segments"])["users"]
    assert [user["segments"] for user in found] == [["JAVA"], ["JAVA"], []]
    assert json.loads(answers["POST /ofrep/v1/evaluate/flags/JAVA"])["value"] is True
    assert db.rows("select * from user_history(8)") == []
