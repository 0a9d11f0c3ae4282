"""Makes the schema equal to what sql/ says, and touches nothing that is so already.

A call in progress goes on in its old body, and PL/pgSQL looks for a name only when it comes to it. So a function or view that
is not wanted any more keeps its name and its grants until such calls have ended, and is dropped by another transaction. One
that would be in the way of a new one gets another name: where PostgreSQL cannot replace it, or could not tell which of the
two is called. Whoever found it already still has it, and whoever looks for it now finds the new one.
"""

import re
import time
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psycopg
from psycopg import errors
from psycopg.rows import class_row
from psycopg.types.range import Range

from service.migrate.attempts import LOCK_TIMEOUT

OWNER = "segmentation_owner"
AS_OWNER = f"set local role {OWNER}"
CATALOG = Path(__file__).with_suffix(".sql").read_bytes()
# What is out of the way.
RENAMED = """
    select 'routine ' || p.oid::regprocedure
    from pg_proc as p
    where p.pronamespace = 'segmentation'::regnamespace and p.proname ~ '^outdated_\\d+_'
    union all
    select 'view ' || c.oid::regclass
    from pg_class as c
    where c.relnamespace = 'segmentation'::regnamespace and c.relkind = 'v' and c.relname ~ '^outdated_\\d+_'
"""
# Seconds for which all that is felt may wait for locks together: whoever calls meanwhile waits behind it.
FELT = 0.1
WAIT_AT_MOST = "select set_config('lock_timeout', %s, true)"
# Tables in the order in which a call comes to write them. Locked in another order, a call would hold the one and wait for us,
# while we hold what it needs next; and under much traffic one always does.
AS_CALLS_DO = ("segments", "layers", "rollouts", "users", "memberships")
# What may be somebody's own, with rights and triggers of its own.
HOLDS_RIGHTS = ("table ", "materialized view ", "foreign table ", "sequence ", "type ")
# One for most changes; one more for what depends on what was dropped and made anew, and so on.
ROUNDS = 9


class CatalogError(Exception):
    """The schema cannot be made so; the message says what is in the way."""


class Thing(NamedTuple):
    """A row of catalog.sql."""

    step: int
    oid: int
    name: str
    state: str
    makes: str | None
    drops: str | None
    takes: Range[int] | None

    @property
    def is_called(self) -> bool:
        """Whether it is a routine or a view, which calls look for by their names."""
        return self.step == 1 and self.kind in ("function", "procedure", "view")

    @property
    def kind(self) -> str:
        """Its kind, in one word."""
        return self.name.partition(" ")[0]

    @property
    def owner(self) -> str:
        """Of a routine or a view; what else there is has the owner of its table."""
        return self.state.partition(" ")[0] if self.is_called else OWNER

    @property
    def to_alter(self) -> str:
        """What ALTER and DROP call it."""
        return re.sub("^(function|procedure) ", "routine ", self.name)

    @property
    def called(self) -> str:
        """The name by which it is called."""
        return self.name.partition(" ")[2].partition("(")[0]


class Difference(NamedTuple):
    """What should be there, and what is."""

    wanted: Thing | None
    present: Thing | None

    @property
    def thing(self) -> Thing:
        """Either of them."""
        thing = self.wanted or self.present
        assert thing
        return thing

    @property
    def is_felt(self) -> bool:
        """Whether others wait meanwhile: for a view that is replaced, a table whose triggers or rules change."""
        if self.thing.is_called:
            return self.thing.kind == "view" and self.present is not None
        return self.thing.step == 1

    @property
    def lock(self) -> tuple[str, bool]:
        """What others feel: the view or table, and whether its readers do. A trigger is made or replaced beside them."""
        kind, _, name = self.thing.name.partition(" ")
        return (name, True) if kind == "view" else (name.rpartition(" on ")[2], not self.wanted)

    def __str__(self) -> str:
        """What is done about it."""
        if not self.wanted:
            verb = "revoked" if (self.thing.makes or "").startswith("grant") else "dropped"
        else:
            verb = "changed" if self.present else "made"
        return f"{verb} {self.thing.name}"


Catalog = dict[str, Thing]
# Does something that locks these relations, which others feel.
Felt = Callable[[Collection[tuple[str, bool]], Callable[[], tuple[list[str], bool]]], tuple[list[str], bool]]


def read(connection: psycopg.Connection) -> Catalog:
    """What the schema is made of, in the order in which it was made."""
    with connection.cursor(row_factory=class_row(Thing)) as cursor:
        return {thing.name: thing for thing in cursor.execute(CATALOG)}


def differences(wanted: Catalog, present: Catalog) -> list[Difference]:
    """What should not be there, last made first; then what should, in its order."""
    stale = [Difference(None, thing) for name, thing in reversed(present.items()) if name not in wanted]
    other = [
        Difference(thing, present.get(name))
        for name, thing in wanted.items()
        if name not in present or present[name].state != thing.state
    ]
    return sorted(stale + other, key=lambda difference: difference.thing.step)


def make_equal(
    connection: psycopg.Connection, wanted: Catalog, then: Callable[[], None], felt: Felt
) -> tuple[list[str], list[str]]:
    """Within the transaction that the connection is in, do what it takes: what was done, and what was left alone.

    What others feel comes last, and after whatever else is to be done then, so that they feel it for a moment only.
    Tables, columns, constraints, indexes and types are left alone: only migrations change them. One that no migration
    made is somebody's own.
    """
    done: list[str] = []
    is_last = False
    for _ in range(ROUNDS):
        present = read(connection)
        kept = [thing.name.partition(" ")[2] for thing in _kept(wanted, present)]
        found = [each for each in differences(wanted, present) if each.wanted or not _is_of(each.thing, kept)]
        alone = [each.thing.name for each in found if each.thing.step == 0 and not each.wanted]
        # And so are its triggers, and the rights to it.
        own = [name.rpartition(" ")[2] for name in alone if name.startswith(HOLDS_RIGHTS)]
        found = [
            each for each in found if each.wanted or (each.thing.step > 0 and not _is_of(each.thing, own))
        ]
        if found and found[0].thing.step == 0:
            raise CatalogError(_not_as_migrated(found))
        # A right to a view that is to go may go with it only.
        unfelt = [each for each in found if not each.is_felt and str(each) not in done]
        made, is_all = _round(connection, unfelt) if unfelt else ([], False)
        # What is left is felt, or needs what is felt: a new view of one that is replaced.
        if not made:
            if not is_last:
                is_last = True
                then()
            if not found:
                return done, alone
            locks = {each.lock for each in found if each.is_felt}
            made, is_all = felt(locks, partial(_felt_round, connection, found))
        done += made
        if is_last and is_all:
            return done, alone
    raise CatalogError(f"{found[0]}, yet it is as before")


def _felt_round(connection: psycopg.Connection, found: list[Difference]) -> tuple[list[str], bool]:
    """A round with what others feel: it locks their tables first, and waits but little for all its locks together."""
    until = time.monotonic() + FELT

    def hurry() -> None:
        connection.execute(WAIT_AT_MOST, [f"{max(1, int((until - time.monotonic()) * 1000))}ms"])

    for table, mode in _to_lock(found):
        hurry()
        connection.execute(f"lock table {table} in {mode} mode".encode())
    made = _round(connection, found, hurry)
    connection.execute(LOCK_TIMEOUT)
    return made


def _round(
    connection: psycopg.Connection, found: list[Difference], hurry: Callable[[], None] | None = None
) -> tuple[list[str], bool]:
    """Execute what can be executed: what was done, and whether nothing is left for another round.

    Left is what needs something that is made later, and what was only renamed. In a hurry, at least one has to be done.
    """
    done: list[str] = []
    failures: dict[str, psycopg.Error] = {}
    is_all = True
    for each in found:
        try:
            with connection.transaction():
                if hurry:
                    hurry()
                is_all = _execute(connection, each) and is_all
        except (psycopg.ProgrammingError, psycopg.NotSupportedError) as error:
            failures[each.thing.name] = error
        else:
            done.append(str(each))
    if hurry and not done:
        name, failure = next(iter(failures.items()))
        raise CatalogError(f"{name}: {failure.diag.message_primary}") from failure
    return done, is_all and not failures


def _to_lock(found: list[Difference]) -> list[tuple[str, str]]:
    """The tables whose triggers or rules change, and how they are locked. A view cannot be: its tables would be as well."""
    tables: dict[str, bool] = {}
    for each in found:
        if each.is_felt and not each.thing.is_called:
            table, is_from_readers = each.lock
            tables[table] = tables.get(table, False) or is_from_readers
    order = [f"segmentation.{name}" for name in AS_CALLS_DO]
    return [
        (table, "access exclusive" if tables[table] else "share row exclusive")
        for table in sorted(tables, key=lambda table: order.index(table) if table in order else len(order))
    ]


def _execute(connection: psycopg.Connection, difference: Difference) -> bool:
    """Make it so; whether nothing went out of the way."""
    wanted, there = difference
    if not there:
        _run(connection, difference.thing.makes)
        return True
    if there.owner != OWNER:
        _take_back(connection, there)
    if wanted:
        try:
            with connection.transaction():
                _run(connection, wanted.makes)
            return True
        # PostgreSQL does not replace what is there by this: another result, a column less.
        except (psycopg.ProgrammingError, psycopg.NotSupportedError):
            pass
    try:
        with connection.transaction():
            _run(connection, there.drops)
    # The owner of a schema may drop what belongs to others, but not rename it.
    except errors.InsufficientPrivilege:
        try:
            _run(connection, f"drop {there.to_alter}" if there.is_called else there.drops)
        except errors.DependentObjectsStillExist as error:
            raise CatalogError(
                f"{there.name} belongs to {there.owner}: as that role or a superuser, "
                f"alter {there.to_alter} owner to {OWNER}, and migrate again. {_dependents(error)}"
            ) from error
    if wanted:
        _run(connection, wanted.makes)
    return there.step == 2


def _take_back(connection: psycopg.Connection, there: Thing) -> None:
    """Give to the owner what somebody gave to another, where who migrates may: what depends on it can stay."""
    try:
        with connection.transaction():
            connection.execute(f"reset role; alter {there.to_alter} owner to {OWNER}; {AS_OWNER}".encode())
    except errors.InsufficientPrivilege:
        pass


def _kept(wanted: Catalog, present: Catalog) -> list[Thing]:
    """What is not wanted and keeps its name for the calls in progress, as no call could mean a new one as well."""
    return [
        thing
        for name, thing in present.items()
        if name not in wanted
        and thing.is_called
        and not any(_is_ambiguous(thing, other) for other in wanted.values())
    ]


def _is_ambiguous(one: Thing, other: Thing) -> bool:
    """Whether there are calls of which PostgreSQL could say "is not unique"."""
    if not one.takes or not other.takes or one.called != other.called:
        return False
    return not (_is_below(one.takes, other.takes) or _is_below(other.takes, one.takes))


def _is_below(one: Range[int], other: Range[int]) -> bool:
    return one.upper is not None and one.upper <= (other.lower or 0)


def _is_of(thing: Thing, names: list[str]) -> bool:
    """Whether it is one of these, or a grant or comment on one."""
    return any(re.search(rf" {re.escape(name)}([ .]|$)", thing.name) for name in names)


def outdated(connection: psycopg.Connection, wanted: Catalog) -> list[str]:
    """What is there for calls in progress only."""
    return [
        *(thing.to_alter for thing in _kept(wanted, read(connection))),
        *(thing for (thing,) in connection.execute(RENAMED)),
    ]


def drop(connection: psycopg.Connection, things: list[str]) -> None:
    """Within the transaction that the connection is in, drop these; of their dependents, none."""
    connection.execute(AS_OWNER)
    while things:
        failures: dict[str, psycopg.Error] = {}
        for thing in things:
            try:
                with connection.transaction():
                    connection.execute(f"drop {thing}".encode())
            # Perhaps another of them does.
            except errors.DependentObjectsStillExist as error:
                failures[thing] = error
        if len(failures) == len(things):
            failure = failures[things[0]]
            raise CatalogError(_dependents(failure)) from failure
        things = list(failures)


def plain(thing: str) -> str:
    """What people call it."""
    return re.sub(r"outdated_\d+_", "", thing)


def _dependents(error: psycopg.Error) -> str:
    """Who depends on what: the hint would be to drop them as well."""
    told = ": ".join(filter(None, [error.diag.message_primary, error.diag.message_detail]))
    return plain(told.replace("\n", "; "))


def _run(connection: psycopg.Connection, statement: str | None) -> None:
    assert statement, "only what sql/ makes is made or dropped"
    connection.execute(statement.encode())


def _not_as_migrated(found: list[Difference]) -> str:
    wrong = [
        f"{d.thing.name} {'is ' + d.present.state if d.present else 'is missing'}, not: {d.wanted.state}"
        for d in found
        if d.wanted and d.wanted.step == 0
    ]
    return (
        f"the tables are not as the migrations made them: {'; '.join(wrong)}. Make them so, and migrate again"
    )
