"""The plans inside a statement, those of the functions that it calls as well: auto_explain tells them."""

import re

import psycopg

from tests.conftest import Database


def plans_within(db: Database, statement: str, *, analyze: bool = False) -> list[str]:
    """Run a statement, and return its plans; with analyze, the rows that each part has handled are in them."""
    told: list[str] = []

    def note(notice: psycopg.errors.Diagnostic) -> None:
        told.append(notice.message_primary or "")

    db.rows("load 'auto_explain'")
    db.rows("set auto_explain.log_min_duration = 0")
    db.rows("set auto_explain.log_nested_statements = on")
    db.rows(f"set auto_explain.log_analyze = {analyze}")
    db.rows("set auto_explain.log_timing = off")
    db.rows("set client_min_messages = log")
    db.connection.add_notice_handler(note)
    db.rows(statement)
    db.connection.remove_notice_handler(note)
    db.rows("set client_min_messages = notice")
    assert told
    return told


def most_rows(plans: list[str]) -> int:
    """The rows that the busiest part of these plans gives or throws away, all its runs together."""
    most = 0
    for plan in plans:
        loops = 1
        for line in plan.splitlines():
            if node := re.search(r"actual rows=(\d+) loops=(\d+)", line):
                loops = int(node[2])
                most = max(most, int(node[1]) * loops)
            elif removed := re.search(r"Rows Removed by (?:Join )?Filter: (\d+)", line):
                most = max(most, int(removed[1]) * loops)
    return most
