"""A deploy that nobody notices: reads, writes, an import, a report and a forgotten transaction go on meanwhile."""

import re
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import httpx
import pytest

from service import project_path
from service.migrate import migrate
from tests.catalog.conftest import checkout, going_on  # noqa: F401
from tests.conftest import Database
from tests.launcher import Server

# A call that waits so long for a lock fails, and with it the test: here no time is measured.
LONGEST_WAIT = "0.5"


@pytest.fixture
def deployed(empty: str) -> str:
    """The URL of a database with some history, in which nothing is set by a test."""
    migrate(empty)
    database = Database(empty)
    for statement in (
        "select create_segment('A', 50)",
        "select create_segment('B')",
        "select register_users(array(select generate_series(1, 20000)))",
        "select change_segment_members('B', array(select generate_series(1, 5000)))",
    ):
        database.rows(statement)
    return empty


@pytest.fixture
def server(deployed: str) -> Iterator[Server]:
    """The service on it."""
    server = Server(deployed, LOCK_TIMEOUT=LONGEST_WAIT)
    yield server
    server.stop()


def test_no_call_fails_while_functions_and_triggers_are_deployed(
    deployed: str,
    server: Server,
    checkout: Path,  # noqa: F811
) -> None:
    database = Database(deployed)
    key = database.value("select create_api_key('test', 'admin')")
    client = httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=60)
    forgotten = Database(deployed)
    forgotten.rows("begin; select * from user_history(7); select * from list_segments()")

    def answered(call: Callable[[int], httpx.Response]) -> Callable[[], None]:
        numbers = count(1)

        def ask() -> None:
            response = call(next(numbers))
            assert response.is_success, f"{response.request.url} {response.status_code} {response.text}"

        return ask

    def import_of(number: int) -> httpx.Response:
        ids = "\n".join(str(user_id) for user_id in range(10_000 + number, 12_000 + number))
        return client.post("/v1/segments/B/members", content=ids, headers={"Content-Type": "text/csv"})

    month = database.value("select to_char(clock() at time zone 'UTC', 'YYYY-MM')")

    def report(_: int) -> httpx.Response:
        link = client.post("/v1/reports", json={"period": month})
        return client.get(link.json()["url"]) if link.is_success else link

    calls: list[Callable[[int], httpx.Response]] = [
        lambda _: client.get("/v1/users/7/segments"),
        lambda _: client.get("/v1/users/7/history"),
        lambda _: client.get("/v1/segments"),
        lambda _: client.get("/health/live"),
        lambda number: client.patch(f"/v1/users/{number % 50 + 1}/segments", json={"add": ["A"]}),
        lambda number: client.patch("/v1/users/99/segments", json={("add", "remove")[number % 2]: ["A"]}),
        import_of,
        report,
    ]
    with going_on(*map(answered, calls)):
        for round_ in range(3):
            for file in project_path("sql").glob("[0-8]*.sql"):
                text = re.sub(r"\nbegin\n", f"\nbegin -- round {round_}\n", file.read_text())
                (checkout / "sql" / file.name).write_text(text)
            head = ("a int", "a int, b int default 2", "a bigint")[round_]
            event = ("truncate", "truncate or update", "update")[round_]
            (checkout / "sql" / "61_new.sql").write_text(
                f"create or replace function segmentation.new ({head}) returns int language plpgsql as $$ "
                "begin return 1; end $$; "
                f"create or replace trigger new before {event} on segmentation.report_links "
                "for each statement execute function segmentation.refuse_truncate();"
            )
            told: list[str] = []
            migrate(deployed, told.append)
            assert len([line for line in told if line.startswith("changed function")]) > 40
            assert [line for line in told if "trigger new" in line]
    forgotten.rows("commit")
