"""Every call of the OpenAPI description, with thousands of requests that nobody would think of.

FUZZ_EXAMPLES=500 sends 500 requests to each call, which takes long.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.conftest import Database
from tests.launcher import Server

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "4"))
CHECKS = """
[checks]
# What a schema cannot say, such as which segments there are, is 422.
# A user id in a context is text, and has to be a number: OFREP calls that 400, and so is it here.
positive_data_acceptance.expected-statuses = ["2xx", "401", "403", "404", "409", "422"]
[[operations]]
include-path-regex = "^/ofrep/"
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "403", "404", "409", "422"]
"""


@pytest.mark.slow
def test_every_call_keeps_to_its_description_whatever_is_sent(
    run_server: Callable[..., Server], db: Database, tmp_path: Path
) -> None:
    # The template may have been made long ago, and a service is ready only if the sweep ran lately.
    db.rows("call sweep()")
    for slug in ("A", "B"):
        db.rows("select create_segment(%s, 30)", slug)
    key = db.value("select create_api_key('fuzz', 'admin')")
    server = run_server(LOG_LEVEL="error", ADMIN_POOL_SIZE="4")
    (tmp_path / "config.toml").write_text(CHECKS)
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "--config-file",
        str(tmp_path / "config.toml"),
        "run",
    ]
    options = [
        "--checks",
        "all",
        # An Idempotency-Key that is used again gives the answer of the first time, whatever was created or deleted
        # since; and the past of a deleted segment can be asked for.
        "--exclude-checks",
        "ensure_resource_availability,use_after_free",
        "--max-examples",
        str(EXAMPLES),
        "--workers",
        "1",
        "--no-color",
    ]
    options += ["--phases", "examples,coverage,fuzzing" + (",stateful" if EXAMPLES > 50 else "")]
    options += ["--seed", "1"] if EXAMPLES <= 50 else []
    # schemathesis itself fails now and then; a fault of the service shows both times.
    for _ in range(2):
        fuzzing = subprocess.run(
            [*command, f"{server.url}/openapi.json", "-H", f"Authorization: Bearer {key}", *options],
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        if fuzzing.returncode == 0:
            break
    assert fuzzing.returncode == 0, fuzzing.stdout + fuzzing.stderr
    print(fuzzing.stdout[-2000:])
    # The service has survived, and its data is what it was.
    assert httpx.get(f"{server.url}/health/live").status_code == 200
