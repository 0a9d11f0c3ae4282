"""Imports, exports and reports: files of any size, whole or not at all."""

import gzip
import os
import pty
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Command, Start
from tests.conftest import Database
from tests.expect import wait_until


@pytest.fixture(autouse=True)
def segment(db: Database) -> None:
    """The segment A, with nobody in it."""
    db.rows("select create_segment('A')")


def members(db: Database) -> list[int]:
    """Who is in A."""
    return db.column("select user_id from segment_members('A')")


def test_a_file_is_imported_and_its_export_can_be_sent_back(
    does: Callable[..., str], db: Database, tmp_path: Path
) -> None:
    ids, out = tmp_path / "ids.csv", tmp_path / "out.csv"
    ids.write_text("3\n1\n2\n2\n")
    assert does("members", "import", "A", str(ids), "--reason", "spring") == (
        "received: 4, changed: 3, unchanged: 1, added: 3, removed: 0, rescheduled: 0\n"
    )
    assert db.row("select actor, reason from user_history(1)") == (db.value("select session_user"), "spring")
    assert does("members", "export", "A", str(out)) == ""
    assert out.read_text() == "user_id\n1\n2\n3\n"
    assert does("members", "import", "A", str(out)) == (
        "received: 3, changed: 0, unchanged: 3, added: 0, removed: 0, rescheduled: 0\n"
    )
    assert does("members", "import", "A", str(out), "--operation", "remove") == (
        "received: 3, changed: 3, unchanged: 0, added: 0, removed: 3, rescheduled: 0\n"
    )
    assert members(db) == []


@pytest.mark.parametrize(
    "given",
    [
        b"1\n2\n",
        b"1\n2",
        b"1\r\n2\r\n",
        b'\xef\xbb\xbfuser_id\n"1"\n"2"\n',
        gzip.compress(b"1\n2\n"),
        gzip.compress(b"1\n") + gzip.compress(b"2\n"),
    ],
    ids=["lines", "no last newline", "windows", "spreadsheet", "gzip", "two gzips"],
)
def test_standard_input_may_be_in_every_form_that_http_takes(
    does: Callable[..., str], db: Database, given: bytes
) -> None:
    assert does("members", "import", "A", stdin=given).startswith("received: 2, changed: 2, unchanged: 0,")
    assert members(db) == [1, 2]


def test_gzip_is_known_by_what_it_is_and_written_by_name(
    does: Callable[..., str], db: Database, tmp_path: Path
) -> None:
    given, out = tmp_path / "ids", tmp_path / "out.csv.gz"
    given.write_bytes(gzip.compress(b"1\n2\n"))
    does("members", "import", "A", str(given))
    does("members", "export", "A", str(out))
    assert gzip.decompress(out.read_bytes()) == b"user_id\n1\n2\n"
    assert does("members", "import", "A", str(out)).startswith("received: 2, changed: 0, unchanged: 2,")


def test_a_file_can_replace_the_list_of_before(
    does: Callable[..., str], command: Command, fails: Callable[..., str], db: Database
) -> None:
    replace = ("members", "import", "A", "--operation", "replace")
    does(*replace, stdin="1\n2\n3\n")
    db.rows("select change_user_segments(7, '{A}', actor => 'support')")
    counts = "received: 2, changed: 3, unchanged: 1, added: 1, removed: 2, rescheduled: 0\n"
    done = command(*replace, "--max-removed", "2", "--dry-run", stdin="3\n4\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, counts, "a dry run: nothing was changed.\n")
    assert "more than 1" in fails(*replace, "--max-removed", "1", stdin="3\n4\n")
    assert "empty" in fails(*replace, stdin="user_id\n")
    assert members(db) == [1, 2, 3, 7]
    assert does(*replace, "--max-removed", "2", stdin="3\n4\n") == counts
    assert members(db) == [3, 4, 7]
    does(*replace, "--all-actors", stdin="3\n4\n")
    assert members(db) == [3, 4]


def test_members_can_be_planned_and_end(does: Callable[..., str], db: Database) -> None:
    does("members", "import", "A", "--starts-at", "2098-01-01Z", "--expires-at", "2099-01-01Z", stdin="1\n")
    assert members(db) == []
    assert does("members", "export", "A", "--at", "2098-06-01Z") == "user_id\n1\n"


@pytest.mark.parametrize(
    ("words", "given", "said"),
    [
        ([], b"1\n2\nx\n", 'Line 3 is not a user id: it is not a whole number: "x"'),
        ([], b"user_id\n1\n\n2\n", "Line 3 is not a user id: it is empty"),
        ([], b"1_000\n", 'Line 1 is not a user id: it is not a whole number: "1_000"'),
        ([], b"0\n", "Line 1 is not a user id: it is not above 0"),
        ([], gzip.compress(b"1\n2\n-3\n", mtime=0), "Line 3 is not a user id"),
        ([], gzip.compress(b"1\n2\n" * 1000, mtime=0)[:-12], "ends before its gzip stream does"),
        ([], b"", "no user id is given"),
        (["--expires-at", "2020-01-01"], b"1\n", "is not in the future"),
        (["--starts-at", "x"], b"1\n", 'timestamp with time zone: "x"'),
    ],
)
def test_a_wrong_import_changes_nothing(
    fails: Callable[..., str], db: Database, words: list[str], given: bytes, said: str
) -> None:
    assert said in fails("members", "import", "A", *words, stdin=given)
    assert members(db) == []


def test_an_unknown_segment_or_file_is_told(fails: Callable[..., str], tmp_path: Path) -> None:
    assert 'segment "B" does not exist' in fails("members", "import", "B", stdin="1\n")
    assert 'segment "B" does not exist' in fails("members", "export", "B")
    missing = str(tmp_path / "none.csv")
    assert f"cannot read {missing}: No such file" in fails("members", "import", "A", missing)
    assert "Is a directory" in fails("members", "import", "A", str(tmp_path))
    assert "Is a directory" in fails("members", "export", "A", str(tmp_path))
    assert "No such file" in fails("members", "export", "A", str(tmp_path / "none" / "a.csv"))


def test_a_file_that_cannot_be_finished_leaves_the_old_one(fails: Callable[..., str], tmp_path: Path) -> None:
    old = tmp_path / "old.csv"
    old.write_text("old\n")
    fails("members", "export", "B", str(old))
    fails("report", "2026-13", str(old))
    assert old.read_text() == "old\n"
    assert os.listdir(tmp_path) == ["old.csv"]


def test_a_new_file_has_the_rights_of_any_other_and_a_link_stays_a_link(
    command: Command, tmp_path: Path
) -> None:
    (tmp_path / "link.csv").symlink_to("real.csv")
    done = command("members", "export", "A", str(tmp_path / "link.csv"), umask=0o027)
    assert (done.returncode, done.stderr) == (0, f"0 rows are in {tmp_path / 'link.csv'}.\n")
    assert sorted(os.listdir(tmp_path)) == ["link.csv", "real.csv"]
    assert (tmp_path / "link.csv").is_symlink()
    assert stat.S_IMODE((tmp_path / "real.csv").stat().st_mode) == 0o640


def waits(db: Database, event: str) -> bool:
    """Whether a command's session waits for this."""
    return bool(
        db.value(
            "select count(*) from pg_stat_activity where datname = current_database()"
            " and application_name like 'segmentation command%%' and wait_event_type = %s",
            event,
        )
    )


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_an_export_that_is_stopped_leaves_nothing(
    start: Start, db: Database, connect: Callable[..., Database], tmp_path: Path, end: signal.Signals
) -> None:
    old = tmp_path / "old.csv"
    old.write_text("old\n")
    holder = connect()
    with holder.connection.transaction(force_rollback=True):
        holder.rows("lock table segmentation.segments in access exclusive mode")
        process = start("members", "export", "A", str(old))
        wait_until(lambda: waits(db, "Lock"), 30)
        process.send_signal(end)
        assert process.wait(timeout=20) == 128 + end
    assert process.communicate() == (b"", b"stopped: nothing was changed.\n")
    assert old.read_text() == "old\n"
    assert os.listdir(tmp_path) == ["old.csv"]


def test_an_import_that_is_stopped_changes_nothing(start: Start, db: Database) -> None:
    process = start("members", "import", "A")
    assert process.stdin
    process.stdin.write(b"1\n2\n")
    process.stdin.flush()
    wait_until(lambda: waits(db, "Client"), 30)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 130
    assert process.communicate() == (b"", b"stopped: nothing was changed.\n")
    assert members(db) == []


def test_an_import_whose_connection_is_cut_says_so(start: Start, db: Database) -> None:
    process = start("members", "import", "A")
    assert process.stdin
    process.stdin.write(b"1\n2\n")
    process.stdin.flush()
    wait_until(lambda: waits(db, "Client"), 30)
    db.rows(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where application_name like 'segmentation command%%' and datname = current_database()"
    )
    out, err = process.communicate(b"3\n" * 1_000_000, timeout=30)
    assert (process.returncode, out) == (1, b"")
    assert err.startswith(b"error: ")
    assert b"Traceback" not in err
    assert members(db) == []


def test_who_reads_only_the_beginning_gets_it_quietly(start: Start, db: Database) -> None:
    db.rows("select change_segment_members('A', array(select generate_series(1, 50000)))")
    process = start("members", "export", "A")
    assert process.stdout
    assert process.stdout.readline() == b"user_id\n"
    process.stdout.close()
    assert process.wait(timeout=30) == 1
    assert process.stderr
    assert process.stderr.read() == b""


def test_a_person_sees_how_far_it_is_and_a_log_does_not(start: Start, tmp_path: Path) -> None:
    ids = tmp_path / "ids.csv"
    ids.write_text("1\n2\n")
    seen, terminal = pty.openpty()
    process = start("members", "import", "A", str(ids), stderr=terminal)
    out, _ = process.communicate(timeout=30)
    os.close(terminal)
    shown = os.read(seen, 100_000).decode()
    os.close(seen)
    assert out.startswith(b"received: 2, changed: 2, unchanged: 0,")
    assert f"reading {ids.name}" in shown
    assert "4 bytes" in shown
    assert "changing memberships" in shown
    assert start("members", "import", "A", str(ids)).communicate(timeout=30)[1] == b""


def test_memory_stays_flat_however_long_the_input_is(start: Start, db: Database) -> None:
    """Two million lines, then a bad one: the time goes into reading, not into writing."""

    def most_memory(lines: int) -> int:
        process = start("members", "import", "A", stdout=subprocess.DEVNULL)
        assert process.stdin
        assert process.stderr
        for begin in range(1, lines, 10_000):
            process.stdin.write("".join(f"{n}\n" for n in range(begin, begin + 10_000)).encode())
        process.stdin.write(b"x\n")
        process.stdin.close()
        told = process.stderr.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert f"Line {lines + 1} is not a user id" in told
        return usage.ru_maxrss

    assert most_memory(2_000_000) < most_memory(10_000) + 10_000
    assert members(db) == []
