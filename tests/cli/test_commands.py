"""Commands: each does what its SQL function does, and says in a sentence why it cannot."""

import csv
import io
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from litestar.__main__ import run_cli

from service import __version__
from service.cli.commands import commands
from tests.cli.conftest import ROOT, Command, environment, run_forked
from tests.conftest import SERVER, Clock, Database
from tests.readmes import block

NOBODY = "postgresql://nobody:secret@127.0.0.1:1/none"
COMMANDS = [
    ["migrate"],
    ["status"],
    ["keys"],
    ["keys", "create"],
    ["keys", "list"],
    ["keys", "revoke"],
    ["segments"],
    ["segments", "create"],
    ["segments", "list"],
    ["layers"],
    ["layers", "create"],
    ["layers", "list"],
    ["layers", "show"],
    ["layers", "delete"],
    ["members"],
    ["members", "import"],
    ["members", "export"],
    ["report"],
]


def rows(text: str) -> list[dict[str, str]]:
    """The rows of a CSV text with a header."""
    return list(csv.DictReader(io.StringIO(text)))


def test_help_needs_neither_settings_nor_a_database(does: Callable[..., str]) -> None:
    told = does("--help", url=None)
    for name in ("migrate", "status", "keys", "segments", "members", "report"):
        assert f"\n  {name} " in told
    for words in COMMANDS:
        assert does(*words, "--help", url=None).startswith(f"Usage: python -m service {' '.join(words)} ")


def test_the_version_is_told_without_a_database(does: Callable[..., str]) -> None:
    assert does("--version", url=None) == f"segmentation {__version__}\n"


def test_what_may_be_chosen_is_told(command: Command) -> None:
    done = command("members", "import", "A", "--operation", "destroy")
    assert done.returncode == 2
    assert "'add', 'remove'" in done.stderr


def test_a_command_does_not_import_the_server() -> None:
    asked = "import sys, service.__main__, service.cli.session, service.migrate; sys.exit('litestar' in sys.modules)"
    subprocess.run([sys.executable, "-c", asked], check=True, cwd=ROOT)


def test_an_unknown_command_and_a_missing_argument_are_told(command: Command) -> None:
    for words in (["frobnicate"], ["keys", "create"], ["keys", "list", "--xml"]):
        done = command(*words)
        assert (done.returncode, done.stdout) == (2, "")
        assert "Error: " in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("url", [NOBODY, None], ids=["away", "not set"])
@pytest.mark.parametrize("words", [["status"], ["keys", "list"], ["migrate"], ["report", "2026-11"]], ids=str)
def test_without_a_database_every_command_says_so(
    fails: Callable[..., str], words: list[str], url: str | None
) -> None:
    told = fails(*words, url=url)
    assert ("does not answer" if url else "DATABASE_URL is not set") in told
    assert "secret" not in told


@pytest.mark.parametrize(
    "url", ["", "postgresql://user:secret@db:port/x", "postgresql://u:secret@127.0.0.1:99999/x"]
)
@pytest.mark.parametrize("words", [["status"], ["migrate"]], ids=str)
def test_a_wrong_url_is_told(fails: Callable[..., str], words: list[str], url: str) -> None:
    assert "secret" not in fails(*words, url=url)


def litestar(url: str | None, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Litestar's own command line on the app."""
    return run_forked(run_cli, "litestar", "--app", "service.app:create_app", *words, url=url)


@pytest.mark.parametrize("url", [None, "nonsense", "postgresql://user:secret@db:port/x"])
def test_litestars_own_command_line_says_what_is_wrong_with_the_url(url: str | None) -> None:
    for words in (["--help"], ["run"], ["keys", "list"]):
        done = litestar(url, *words)
        assert done.returncode == 1
        assert "DATABASE_URL is not" in done.stderr
        assert "Traceback" not in done.stderr + done.stdout
        assert "secret" not in done.stderr


def test_litestars_own_command_line_has_the_same_commands(db: Database, database_url: str) -> None:
    program = shutil.which("litestar", path=str(Path(sys.executable).parent))
    assert program
    told = subprocess.run(
        [program, "--app", "service.app:create_app", "--help"],
        env=environment(NOBODY),
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout
    for name in ("migrate", "status", "keys", "segments", "members", "report"):
        assert f" {name} " in told
    assert "Create, list and revoke API keys" in litestar(NOBODY, "keys", "--help").stdout
    done = litestar(database_url, "keys", "create", "shop", "reader")
    assert done.returncode == 0
    assert is_key_of(db, done.stdout, "shop")
    done = litestar(database_url, "keys", "revoke", "nobody")
    assert done.returncode == 1
    assert 'no API key is named "nobody"' in done.stderr
    assert "Traceback" not in done.stderr


def test_migrate_brings_an_empty_database_up_to_date(command: Command, empty: str) -> None:
    first = command("migrate", url=empty)
    assert (first.returncode, first.stdout) == (0, "")
    assert "applied migrations/0001_roles_and_schema.sql" in first.stderr
    last = first.stderr.splitlines()[-1]
    assert last.startswith("the database is at version ")
    again = command("migrate", "--quiet", url=empty)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", f"{last}\n")
    assert Database(empty).value("select count(*) from segmentation.user_segments(1000)") == 0


@pytest.mark.parametrize("options", [[], ["--kind", "router"]])
def test_a_shard_is_not_touched_where_there_is_no_router(
    fails: Callable[..., str], db: Database, empty: str, options: list[str]
) -> None:
    db.rows("select create_segment('A')")
    assert "is no router" in fails("migrate", *options, "--shard", f"s1={empty}")
    assert Database(empty).value("select to_regnamespace('segmentation')") is None


@pytest.mark.parametrize("options", [["--wait", "nan"], ["--wait", "-5"], ["--copy-catalog"]])
def test_options_of_migrate_that_mean_nothing_are_refused(command: Command, options: list[str]) -> None:
    done = command("migrate", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert options[0] in done.stderr


def test_the_old_way_to_migrate_says_the_same(empty: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "service.migrate"],
        env=environment(empty),
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("the database is at version ")


def test_what_is_not_migrated_is_told_with_the_way_to_do_it(
    fails: Callable[..., str], empty: str, db: Database
) -> None:
    for words in (["status"], ["keys", "list"], ["members", "export", "A"]):
        assert "Run python -m service migrate." in fails(*words, url=empty)
    db.rows("drop function segmentation.list_api_keys()")
    assert "Run python -m service migrate." in fails("keys", "list")


def test_status_shows_the_parts_and_its_exit_code_tells_an_alarm(
    does: Callable[..., str], command: Command, db: Database
) -> None:
    db.rows("call sweep()")
    assert {row["item"]: row["ok"] for row in rows(does("status", "--csv"))} == dict.fromkeys(
        db.column("select item from service_status()"), "t"
    )
    shown = does("status").splitlines()
    assert shown[0].split() == ["item", "ok", "value", "hint"]
    assert len(shown) == 6
    db.rows("update segmentation.upkeep set finished_at = finished_at - interval '1 hour'")
    done = command("status")
    assert (done.returncode, done.stderr) == (1, "error: not in order: last sweep.\n")
    assert "Is pg_cron running?" in done.stdout


def is_key_of(db: Database, printed: str, name: str) -> bool:
    """Whether exactly this key was printed."""
    assert printed.count("\n") == 1
    return bool(
        db.column(
            "select true from authenticate_api_key(sha256(convert_to(%s, 'UTF8'))) where name = %s",
            printed.strip(),
            name,
        )
    )


def test_a_key_is_printed_alone_listed_and_revoked(
    command: Command, does: Callable[..., str], db: Database
) -> None:
    done = command("keys", "create", "shop", "reader")
    assert done.returncode == 0
    assert is_key_of(db, done.stdout, "shop")
    assert done.stderr == "This is the key shop, with the role reader. It is shown this once.\n"
    does("keys", "create", "guest", "editor", "--expires-at", "2099-01-01T00:00Z")
    listed = rows(does("keys", "list", "--csv"))
    assert [(key["name"], key["role"], key["expires_at"], key["revoked_at"]) for key in listed] == [
        ("guest", "editor", "2099-01-01T00:00:00.000000Z", ""),
        ("shop", "reader", "", ""),
    ]
    shown = does("keys", "list")
    assert [line.split()[:2] for line in shown.splitlines()] == [
        ["name", "role"],
        ["guest", "editor"],
        ["shop", "reader"],
    ]
    assert done.stdout.strip() not in shown
    assert does("keys", "revoke", "shop") == ""
    assert not is_key_of(db, done.stdout, "shop")
    assert rows(does("keys", "list", "--csv"))[1]["revoked_at"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["create", "shop", "admin"], "exists already"),
        (["create", "no spaces", "reader"], 'name "no spaces" is not valid'),
        (["create", "other", "root"], 'role "root" is unknown'),
        (["create", "other", "reader", "--expires-at", "2020-01-01"], "is not in the future"),
        (["create", "other", "reader", "--expires-at", "soon"], 'timestamp with time zone: "soon"'),
        (["revoke", "nobody"], 'no API key is named "nobody"'),
    ],
)
def test_a_wrong_key_is_refused_in_sqls_own_words(
    fails: Callable[..., str], db: Database, words: list[str], said: str
) -> None:
    db.rows("select create_api_key('shop', 'reader')")
    told = fails("keys", *words)
    assert said in told
    assert "migrate" not in told
    assert db.column("select name from list_api_keys()") == ["shop"]


def test_segments_are_listed_all_of_them(does: Callable[..., str], db: Database) -> None:
    assert rows(does("segments", "list", "--csv")) == []
    db.rows("select create_segment('S' || n, n % 100, 'some; \"text\"') from generate_series(1, 250) as n")
    listed = rows(does("segments", "list", "--csv"))
    assert len(listed) == 250
    assert (listed[0]["slug"], listed[0]["percent"], listed[0]["description"]) == ("S1", "1", 'some; "text"')
    assert len(does("segments", "list").splitlines()) == 251


def test_a_layer_is_created_shown_and_deleted(
    does: Callable[..., str], fails: Callable[..., str], db: Database
) -> None:
    does("layers", "create", "L", "--description", "one of them", "--reason", "trial")
    does("segments", "create", "A", "--percent", "33.3", "--layer", "L")
    does("segments", "create", "B", "--layer", "L", "--description", "the other")
    assert rows(does("layers", "list", "--csv")) == [
        {
            "slug": "L",
            "segments": "A B",
            "allocated_percent": "33.3",
            "free_percent": "66.7",
            "description": "one of them",
        }
    ]
    assert [(row["slug"], row["percent"]) for row in rows(does("layers", "show", "L", "--csv"))] == [
        ("A", "33.3"),
        ("B", "0"),
    ]
    assert [row["layer"] for row in rows(does("segments", "list", "--csv"))] == ["L", "L"]
    assert 'segment "C" asks for 70 % of layer "L"' in fails(
        "segments", "create", "C", "--percent", "70", "--layer", "L"
    )
    assert 'layer "L" has segments: A, B' in fails("layers", "delete", "L")
    db.rows("select delete_segment(slug) from unnest(array['A', 'B']) as slug")
    does("layers", "delete", "L", "--reason", "over")
    assert rows(does("layers", "list", "--csv")) == []


def test_a_report_is_the_months_rows(does: Callable[..., str], db: Database, clock: Clock) -> None:
    db.rows("select create_segment('A')")
    db.rows("select change_user_segments(7, '{A}')")
    clock.advance(minutes=1)
    db.rows("select change_user_segments(8, '{A}')")
    lines = ["7;A;add;2026-11-20T12:00:00.000000Z", "8;A;add;2026-11-20T12:01:00.000000Z"]
    assert does("report", "2026-11").splitlines() == lines
    assert does("report", "2026-11", "--header").splitlines() == ["user_id;segment;operation;at", *lines]
    assert does("report", "2026-11", "--user-id", "8").splitlines() == lines[1:]
    assert does("report", "2026-10") == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["2026-13"], "is not a month"),
        (["2099-01"], "has not begun"),
        (["2026-11", "--user-id", "0"], "user id 0 is not above 0"),
        (["2026-11", "--user-id", "99999999999999999999"], "out of range for type bigint"),
        (["2026-11", "--user-id", "x"], 'invalid input syntax for type bigint: "x"'),
    ],
)
def test_a_wrong_report_is_refused(
    fails: Callable[..., str], clock: Clock, words: list[str], said: str
) -> None:
    assert said in fails("report", *words)


def test_a_person_may_do_what_their_role_may(
    does: Callable[..., str], fails: Callable[..., str], db: Database, login: Callable[..., str]
) -> None:
    db.rows("select create_segment('A')")
    reader, editor, nobody = login("segmentation_reader"), login("segmentation_editor"), login()
    assert does("members", "export", "A", url=reader) == "user_id\n"
    assert "permission denied" in fails("members", "import", "A", stdin="1\n", url=reader)
    does("members", "import", "A", stdin="1\n", url=editor)
    assert db.value("select actor from user_history(1)") == "segmentation_test_person_1"
    assert "permission denied" in fails("keys", "list", url=editor)
    for words in (["status"], ["keys", "list"], ["segments", "list"]):
        assert "permission denied" in fails(*words, url=nobody)


def test_the_services_own_login_will_do(does: Callable[..., str], db: Database) -> None:
    dbname = db.value("select current_database()")
    db.rows("alter role segmentation_service password 'secret'")
    url = f"postgresql://segmentation_service:secret@{SERVER['host']}:{SERVER['port']}/{dbname}"
    try:
        does("keys", "create", "shop", "reader", url=url)
        assert [key["name"] for key in rows(does("keys", "list", "--csv", url=url))] == ["shop"]
    finally:
        db.rows("alter role segmentation_service password null")


def test_the_readmes_commands_do_what_they_say(
    database_url: str, db: Database, clock: Clock, tmp_path: Path
) -> None:
    # A thousandth of it will do.
    printed = block("command line").replace("1000000", "1000")
    for name in ("Makefile", ".dev"):
        (tmp_path / name).symlink_to(ROOT / name)
    db.rows("select create_segment('AVITO_DISCOUNT_30')")
    told = ""
    for line in printed.splitlines():
        if line.startswith("$ "):
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", line.removeprefix("$ ")],
                cwd=tmp_path,
                # Not as a part of make test.
                env={**environment(database_url), "MAKEFLAGS": "", "MAKELEVEL": ""},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert done.returncode == 0, done.stdout
            told += f"{line}\n{done.stdout}"
    assert re.sub("[0-9a-f]{64}", "<key>", told) == re.sub("[0-9a-f]{64}", "<key>", printed)
    assert len((tmp_path / "november.csv").read_text().splitlines()) == 1_000


def test_the_readme_names_every_command_and_option() -> None:
    section = (ROOT / "service" / "README.md").read_text()
    for words in COMMANDS:
        found: click.Command = commands
        for word in words:
            assert isinstance(found, click.Group)
            found = found.commands[word]
        if not isinstance(found, click.Group):
            assert f"`{' '.join(words)}" in section
            options = {option for param in found.params for option in param.opts if option.startswith("--")}
            assert {option for option in options if option not in section} == set()
