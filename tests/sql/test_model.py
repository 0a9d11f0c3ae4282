"""The SQL held to a plain-Python model: random histories, compared now, in the past, in the future, as events.

The model knows no ranges. It keeps the rules' inputs (steps, overrides, registrations, lives of segments)
and asks for one moment at a time whether a user is in; events are the moments where that answer changes.
Everything happens on full hours. Which buckets a step in a layer was dealt is chance, so the model reads it. Chance
begins at a seed of the example, which Hypothesis prints with a failure and gives when it is run again.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg.rows import namedtuple_row

from tests.conftest import NOON, OPTIONS

USERS = [1000, 1002, 1004, 2**40 + 1]
LAYER = "LAYER"
LAYER_OF = {"ALPHA": None, "BETA": LAYER, "GAMMA": LAYER, "DELTA": LAYER}
SLUGS = list(LAYER_OF)
IN_LAYER = SLUGS[1:]
FOREVER = 10**9


def at(hour: int) -> datetime | str:
    """The moment of a model's hour."""
    return "infinity" if hour == FOREVER else NOON + timedelta(hours=hour)


@dataclass
class Segment:
    """A segment as the model knows it; hours are counted from the start of the test."""

    segment_id: int
    slug: str
    created: int
    buckets: dict[int, int]
    deleted: int = FOREVER
    steps: dict[int, float] = field(default_factory=dict)
    # In a layer: whom a step was dealt.
    dealt: dict[int, list[int]] = field(default_factory=dict)

    def alive(self, hour: int) -> bool:
        """Whether the segment is there."""
        return self.created <= hour < self.deleted

    def step(self, hour: int) -> int | None:
        """The start of the step in force."""
        return max((start for start in self.steps if start <= hour), default=None)

    def percent(self, hour: int) -> float:
        """The percentage in force."""
        step = self.step(hour)
        return 0 if step is None or not self.alive(hour) else self.steps[step]

    def holds(self, user: int, hour: int) -> bool:
        """Whether the step in force holds the user's bucket."""
        if LAYER_OF[self.slug]:
            step = self.step(hour)
            return step is not None and user in self.dealt[step]
        return self.buckets[user] < round(self.percent(hour) * 1000)


@dataclass
class Override:
    """An assignment or an exclusion, for [start, end)."""

    included: bool
    start: int
    end: int


class Membership(RuleBasedStateMachine):
    """Random sequences of everything that can be done, one hour or many at a time."""

    connection: psycopg.Connection[Any]

    @initialize(percent=st.sampled_from([0, 30, 100]), seed=st.integers(0, 999_999))
    def begin(self, percent: int, seed: int) -> None:
        """Start with two segments, in a transaction that is rolled back."""
        self.connection.rollback()
        self.rows("select setseed(%s / 1000000.0)", seed)
        for table in ("layers", "segments"):
            self.connection.execute(
                f"alter table segmentation.{table} alter salt set default hashtextextended(random()::text, 0)".encode()
            )
        self.now = 0
        self.registered: dict[int, int] = {}
        self.segments: list[Segment] = []
        self.overrides: dict[tuple[int, int], list[Override]] = {}
        self.set_clock()
        self.rows("select create_layer(%s)", LAYER)
        self.create_segment("ALPHA", percent)
        self.create_segment("BETA", percent)

    def teardown(self) -> None:
        """Leave nothing behind."""
        self.connection.rollback()

    def rows(self, query: str, *args: Any) -> list[Any]:
        """All rows of a query."""
        return self.connection.execute(query, args).fetchall()

    def refused(self, sqlstate: str, query: str, *args: Any) -> None:
        """The query fails so, and leaves no trace."""
        with pytest.raises(psycopg.Error) as error, self.connection.transaction():
            self.connection.execute(query, args)
        assert error.value.sqlstate == sqlstate

    def set_clock(self) -> None:
        """Put the database's clock to the model's hour."""
        self.connection.execute("update segmentation_test.clock set moment = %s", [at(self.now)])

    # What the model answers.

    def living(self, slug: str) -> int | None:
        """The index of the living segment of this slug."""
        found = [i for i, s in enumerate(self.segments) if s.slug == slug and s.deleted == FOREVER]
        return found[0] if found else None

    def override(self, user: int, segment: int, hour: int) -> Override | None:
        """The override in force at an hour."""
        for override in self.overrides.get((user, segment), []):
            if override.start <= hour < override.end:
                return override
        return None

    def current(self, user: int, segment: int) -> Override | None:
        """The one override that is live or planned."""
        for override in self.overrides.get((user, segment), []):
            if override.end > self.now:
                return override
        return None

    def rolled_out(self, user: int, segment: int, hour: int) -> bool:
        """Whether the rollout alone holds the user."""
        return self.registered.get(user, FOREVER) <= hour and self.segments[segment].holds(user, hour)

    def others(self, segment: int) -> list[int]:
        """The other segments of the layer, dead ones too."""
        layer = LAYER_OF[self.segments[segment].slug]
        return [
            i for i, s in enumerate(self.segments) if layer and LAYER_OF[s.slug] == layer and i != segment
        ]

    def elsewhere(self, user: int, segment: int, hour: int) -> bool:
        """Whether the user is assigned to another segment of the layer."""
        return any(
            self.segments[other].alive(hour) and (o := self.override(user, other, hour)) and o.included
            for other in self.others(segment)
        )

    def taken(self, user: int, segment: int, leaving: int | None = None) -> bool:
        """Whether an assignment elsewhere, live or planned, forbids to add the user; not one that it is leaving."""
        return any(
            self.segments[other].alive(self.now) and (o := self.current(user, other)) and o.included
            for other in self.others(segment)
            if other != leaving
        )

    def member(self, user: int, segment: int, hour: int) -> bool:
        """The algebra, one moment at a time."""
        s = self.segments[segment]
        if not s.alive(hour):
            return False
        override = self.override(user, segment, hour)
        if override:
            return override.included
        return self.rolled_out(user, segment, hour) and not self.elsewhere(user, segment, hour)

    def is_full(self, segment: int | None, steps: dict[int, float]) -> bool:
        """Whether the layer would promise more than there is, if this segment had these steps."""
        living = {
            i: s.steps for i, s in enumerate(self.segments) if LAYER_OF[s.slug] and s.deleted == FOREVER
        }
        living[-1 if segment is None else segment] = steps
        hours = {self.now, *(start for plan in living.values() for start in plan if start > self.now)}
        return any(
            sum(plan[max(begun)] for plan in living.values() if (begun := [h for h in plan if h <= hour]))
            > 100
            for hour in hours
        )

    def read_dealt(self) -> None:
        """Learn whose buckets the steps in the layer hold."""
        query = """
            select r.segment_id, r.starts_at, array(
              select u from unnest(%s::bigint[]) as u where segmentation.holds(r.buckets, r.threshold, bucket(u, r.salt))
            ) as users
            from segmentation.rollouts as r where r.layer_id is not null
        """
        for r in self.rows(query, USERS):
            (s,) = (s for s in self.segments if s.segment_id == r.segment_id)
            s.dealt[(r.starts_at - NOON) // timedelta(hours=1)] = r.users

    def hours(self) -> list[int]:
        """Every hour at which anything could change, up to now."""
        hours = set(self.registered.values())
        for s in self.segments:
            hours |= {s.created, s.deleted, *s.steps}
        for periods in self.overrides.values():
            hours |= {hour for o in periods for hour in (o.start, o.end)}
        return sorted(hour for hour in hours if hour <= self.now)

    def events(self) -> list[tuple[int, str, str, datetime | str]]:
        """(user, segment, operation, at) wherever the answer changes."""
        events = []
        for user in self.registered:
            for index, s in enumerate(self.segments):
                before = False
                for hour in self.hours():
                    after = self.member(user, index, hour)
                    if before != after:
                        events.append((user, s.slug, "add" if after else "remove", at(hour)))
                    before = after
        return sorted(events, key=str)

    # What can be done.

    @rule(hours=st.sampled_from([1, 2, 7, 24, 300, 800]))
    def time_passes(self, hours: int) -> None:
        """The clock moves on."""
        self.now += hours
        self.set_clock()

    @rule(user=st.sampled_from(USERS))
    def register(self, user: int) -> None:
        """A user is seen, perhaps for the first time."""
        self.rows("select register_users(array[%s::bigint])", user)
        self.registered.setdefault(user, self.now)

    @rule(slug=st.sampled_from(SLUGS), percent=st.sampled_from([0, 30, 100]))
    def create_segment(self, slug: str, percent: int) -> None:
        """A segment is created, unless its slug is taken."""
        if self.living(slug) is not None:
            self.refused("23505", "select create_segment(%s, %s)", slug, percent)
            return
        query = "select * from create_segment(%s, %s, layer => %s)"
        if LAYER_OF[slug] and self.is_full(None, {self.now: percent}):
            self.refused("55000", query, slug, percent, LAYER)
            return
        (created,) = self.rows(query, slug, percent, LAYER_OF[slug])
        (newest,) = self.rows("select max(segment_id) from segmentation.segments")
        buckets = dict(
            self.rows("select u, bucket(u, %s) from unnest(%s::bigint[]) as u", created.salt, USERS)
        )
        steps: dict[int, float] = {self.now: percent} if percent else {}
        self.segments.append(Segment(newest.max, slug, self.now, buckets, steps=steps))
        self.read_dealt()

    @rule(slug=st.sampled_from(SLUGS))
    def delete_segment(self, slug: str) -> None:
        """A segment is deleted, if there is one."""
        index = self.living(slug)
        if index is None:
            self.refused("P0002", "select delete_segment(%s)", slug)
            return
        self.rows("select delete_segment(%s)", slug)
        s = self.segments[index]
        s.deleted = self.now
        s.steps = {start: percent for start, percent in s.steps.items() if start < self.now}
        for (_, segment), periods in self.overrides.items():
            if segment == index:
                periods[:] = [o for o in periods if o.start < self.now]
        self.read_dealt()

    @rule(
        slug=st.sampled_from(SLUGS),
        user=st.sampled_from(USERS),
        edge=st.sampled_from([None, 0, 1]),
        percent=st.sampled_from([0, 5, 50, 100]),
        ahead=st.sampled_from([0, 0, 0, 3, 50]),
    )
    def set_rollout(self, slug: str, user: int, edge: int | None, percent: float, ahead: int) -> None:
        """The percentage changes, now or later, at times right at the edge of a user's bucket."""
        index = self.living(slug)
        if index is None:
            return
        s = self.segments[index]
        if edge is not None:
            percent = min((s.buckets[user] + edge) / 1000, 100)
        start = self.now + ahead
        args = (slug, str(percent), at(start) if ahead else None)
        changes = bool(ahead) or s.percent(start) != percent
        if LAYER_OF[slug] and changes and self.is_full(index, s.steps | {start: percent}):
            self.refused("55000", "select set_rollout(%s, %s, %s)", *args)
            return
        self.rows("select set_rollout(%s, %s, %s)", *args)
        if changes:
            s.steps[start] = percent
        self.read_dealt()

    @rule(slug=st.sampled_from(SLUGS))
    def cancel_rollout_step(self, slug: str) -> None:
        """The last step is cancelled if it lies in the future; one that has begun stays."""
        index = self.living(slug)
        if index is None or not self.segments[index].steps:
            return
        last = max(self.segments[index].steps)
        if last <= self.now:
            self.refused("55000", "select cancel_rollout_step(%s, %s)", slug, at(last))
            return
        steps = {start: percent for start, percent in self.segments[index].steps.items() if start != last}
        if LAYER_OF[slug] and self.is_full(index, steps):
            self.refused("55000", "select cancel_rollout_step(%s, %s)", slug, at(last))
            return
        self.rows("select cancel_rollout_step(%s, %s)", slug, at(last))
        self.segments[index].steps = steps
        self.read_dealt()

    @rule(
        users=st.lists(st.sampled_from(USERS), min_size=1, max_size=3, unique=True),
        slug=st.sampled_from(SLUGS),
        ahead=st.sampled_from([0, 0, 0, 2, 30]),
        lasting=st.sampled_from([FOREVER, 1, 3, 40]),
    )
    def add(self, users: list[int], slug: str, ahead: int, lasting: int) -> None:
        """Users are added, with or without an end, now or later, by one call per user or by one for all."""
        index = self.living(slug)
        if index is None:
            return
        start = self.now + ahead
        end = FOREVER if lasting == FOREVER else start + lasting
        args = (at(end) if end < FOREVER else None, at(start) if ahead else None)
        states = [self.current(user, index) for user in users]
        excluded = any(o and not o.included and o.start <= self.now for o in states)
        if (ahead and excluded) or any(self.taken(user, index) for user in users):
            self.refused("55000", "select change_segment_members(%s, %s, 'add', %s, %s)", slug, users, *args)
            return
        if len(users) == 1:
            query = "select change_user_segments(%s, array[%s], '{}', %s, %s)"
            self.rows(query, users[0], slug, *args)
        else:
            self.rows("select change_segment_members(%s, %s, 'add', %s, %s)", slug, users, *args)
        for user in users:
            self.added(user, index, start, end)

    def added(self, user: int, index: int, start: int, end: int) -> None:
        """What an addition does."""
        self.registered.setdefault(user, self.now)
        state = self.current(user, index)
        periods = self.overrides.setdefault((user, index), [])
        if state and state.included and state.start <= self.now:
            state.end = end
            return
        if state and state.start <= self.now:
            state.end = self.now
        elif state:
            periods.remove(state)
        periods.append(Override(True, start, end))

    @rule(
        users=st.lists(st.sampled_from(USERS), min_size=1, max_size=3, unique=True),
        slug=st.sampled_from(SLUGS),
    )
    def remove(self, users: list[int], slug: str) -> None:
        """Users are removed by hand."""
        index = self.living(slug)
        if index is None:
            return
        if len(users) == 1:
            self.rows("select change_user_segments(%s, '{}', array[%s])", users[0], slug)
        else:
            self.rows("select change_segment_members(%s, %s, 'remove')", slug, users)
        for user in users:
            self.removed(user, index)

    def removed(self, user: int, index: int) -> None:
        """What a removal does."""
        self.registered.setdefault(user, self.now)
        state = self.current(user, index)
        periods = self.overrides.setdefault((user, index), [])
        if state and not state.included:
            return
        if state and state.start <= self.now:
            state.end = self.now
        elif state:
            periods.remove(state)
        if self.rolled_out(user, index, self.now) and not self.elsewhere(user, index, self.now):
            periods.append(Override(False, self.now, FOREVER))

    @rule(
        user=st.sampled_from(USERS),
        slugs=st.permutations(IN_LAYER),
        ahead=st.sampled_from([0, 0, 2]),
        lasting=st.sampled_from([FOREVER, 1, 40]),
    )
    def move(self, user: int, slugs: list[str], ahead: int, lasting: int) -> None:
        """A user is taken from one segment of the layer into another, by one call."""
        old, new = (self.living(slug) for slug in slugs[:2])
        if old is None or new is None:
            return
        start = self.now + ahead
        end = FOREVER if lasting == FOREVER else start + lasting
        state = self.current(user, new)
        args = (user, slugs[1], slugs[0], at(end) if end < FOREVER else None, at(start) if ahead else None)
        query = "select change_user_segments(%s, array[%s], array[%s], %s, %s)"
        excluded = state and not state.included and state.start <= self.now
        if (ahead and excluded) or self.taken(user, new, leaving=old):
            self.refused("55000", query, *args)
            return
        self.rows(query, *args)
        self.removed(user, old)
        self.added(user, new, start, end)

    @rule(user=st.sampled_from(USERS), slug=st.sampled_from(SLUGS))
    def dba_inserts(self, user: int, slug: str) -> None:
        """A DBA types INSERT: refused where there is an override, or an assignment in the layer."""
        index = self.living(slug)
        if index is None:
            return
        # Rows that are over stand in the way until they are swept.
        self.sweep()
        query = "insert into segmentation.memberships (user_id, segment_id) values (%s, %s)"
        args = (user, self.segments[index].segment_id)
        if self.current(user, index) or self.taken(user, index):
            self.refused("23505", query, *args)
            return
        self.connection.execute(query, args)
        self.registered.setdefault(user, self.now)
        self.overrides.setdefault((user, index), []).append(Override(True, self.now, FOREVER))

    @rule(user=st.sampled_from(USERS))
    def dba_deletes(self, user: int) -> None:
        """A DBA types DELETE: what was live ends now, a plan vanishes."""
        self.connection.execute("delete from segmentation.memberships where user_id = %s", [user])
        for (owner, _), periods in self.overrides.items():
            if owner == user:
                periods[:] = [o for o in periods if o.start <= self.now]
                for o in periods:
                    o.end = min(o.end, self.now)

    @rule()
    def sweep(self) -> None:
        """The sweep changes no answer."""
        self.rows("select expire_memberships(1000)")

    # What must agree.

    @invariant()
    def now_agrees(self) -> None:
        """The hot read, the member lists and the counts equal the model."""
        if not self.registered:
            return
        users = list(self.registered)
        held = {r.user_id: r.segments for r in self.rows("select * from users_segments(%s::bigint[])", users)}
        assert held == {
            user: sorted(s.slug for i, s in enumerate(self.segments) if self.member(user, i, self.now))
            for user in users
        }
        for slug in SLUGS:
            index = self.living(slug)
            if index is None:
                continue
            members = sorted(user for user in users if self.member(user, index, self.now))
            assert [r.user_id for r in self.rows("select user_id from segment_members(%s)", slug)] == members
            (stats,) = self.rows("select * from segment_stats(%s)", slug)
            in_force = [o for user in USERS if (o := self.override(user, index, self.now))]
            assert (stats.members, stats.assigned, stats.excluded) == (
                len(members),
                sum(o.included for o in in_force),
                sum(not o.included for o in in_force),
            )

    @invariant()
    def flags_agree(self) -> None:
        """A segment as a boolean flag, and the layer as a string flag."""
        query = "select u as user_id, ofrep_flags(u) -> 'flags' as flags from unnest(%s::bigint[]) as u"
        living = {slug: i for slug in SLUGS if (i := self.living(slug)) is not None}
        for r in self.rows(query, list(self.registered)):
            inside = {slug for slug, i in living.items() if self.member(r.user_id, i, self.now)}
            variants = inside & set(IN_LAYER)
            assert len(variants) <= 1
            assert {flag["key"]: flag["value"] for flag in r.flags} == {
                **{slug: slug in inside for slug in living},
                LAYER: next(iter(variants), "off"),
            }

    @invariant()
    def every_moment_agrees(self) -> None:
        """Time travel, to the past and to the planned future, equals the model."""
        users = list(self.registered)
        hours = sorted(
            {h for hour in self.hours() for h in (hour, hour - 1)} | {self.now + 2, self.now + 60}
        )[-12:]
        found: dict[tuple[int, Any], list[str]] = {}
        query = """
            select u as user_id, t as moment, s.segment
            from unnest(%s::bigint[]) as u cross join unnest(%s::timestamptz[]) as t
            cross join lateral user_segments(u, t) as s
        """
        for r in self.rows(query, users, [at(hour) for hour in hours]):
            found.setdefault((r.user_id, r.moment), []).append(r.segment)
        for user in users:
            for hour in hours:
                expected = sorted(s.slug for i, s in enumerate(self.segments) if self.member(user, i, hour))
                assert sorted(found.get((user, at(hour)), [])) == expected, (user, hour)
        members: dict[tuple[str, Any], list[int]] = {}
        query = """
            select s as slug, t as moment, m.user_id
            from unnest(%s::text[]) as s cross join unnest(%s::timestamptz[]) as t
            cross join lateral segment_members(s, t) as m
        """
        living = {slug: i for slug in SLUGS if (i := self.living(slug)) is not None}
        since = max((self.segments[i].created for i in living.values()), default=0)
        hours = [hour for hour in hours if hour >= since]
        for r in self.rows(query, list(living), [at(hour) for hour in hours]):
            members.setdefault((r.slug, r.moment), []).append(r.user_id)
        for slug, index in living.items():
            for hour in hours:
                expected_users = sorted(user for user in users if self.member(user, index, hour))
                assert members.get((slug, at(hour)), []) == expected_users, (slug, hour)

    @invariant()
    def growth_agrees(self) -> None:
        """The growth of every slug, over a day before now and a day of plans, equals the model."""
        hours = range(self.now - 24, self.now + 31)
        query = "select * from segment_growth(%s, %s, %s, '1 hour')"
        for slug in {s.slug for s in self.segments}:
            rows = self.rows(query, slug, at(hours[0]), at(hours[-1]))
            assert [(r.at, r.users, r.members, r.assigned, r.excluded) for r in rows] == [
                (at(hour), *self.counted(slug, hour)) for hour in hours
            ]
            assert all(r.members == r.assigned + r.rolled_out for r in rows)

    def counted(self, slug: str, hour: int) -> tuple[int, int, int, int]:
        """The number of known users, and the members, assignments and exclusions of the segment that has the slug then."""
        known = [user for user, registered in self.registered.items() if registered <= hour]
        for index, s in enumerate(self.segments):
            if s.slug == slug and s.alive(hour):
                in_force = [o for user in USERS if (o := self.override(user, index, hour))]
                assigned = sum(o.included for o in in_force)
                members = sum(self.member(user, index, hour) for user in USERS)
                return len(known), members, assigned, len(in_force) - assigned
        return len(known), 0, 0, 0

    @invariant()
    def events_agree(self) -> None:
        """The users' histories and the months' reports equal the model's events."""
        query = (
            "select u as user_id, h.* from unnest(%s::bigint[]) as u cross join lateral user_history(u) as h"
        )
        events = [(r.user_id, r.segment, r.operation, r.at) for r in self.rows(query, list(self.registered))]
        assert sorted(events, key=str) == self.events()
        months = sorted({NOON.strftime("%Y-%m"), *(e[3].strftime("%Y-%m") for e in events)})
        query = """
            select r.user_id, r.segment, r.operation, r.at::timestamptz as at
            from unnest(%s::text[]) as p cross join lateral history_report(p) as r
        """
        reported = [tuple(r) for r in self.rows(query, months)]
        assert sorted(reported, key=str) == self.events()

    @invariant()
    @precondition(lambda self: self.segments)
    def explanations_agree(self) -> None:
        """Every explanation agrees with the read, and names its source."""
        query = """
            select u as user_id, s as slug, e.member, e.source, e.bucket_percent
            from unnest(%s::bigint[]) as u cross join unnest(%s::text[]) as s
            cross join lateral explain_membership(u, s) as e
        """
        slugs = [slug for slug in SLUGS if self.living(slug) is not None]
        for r in self.rows(query, list(self.registered), slugs):
            index = self.living(r.slug)
            assert index is not None
            override = self.override(r.user_id, index, self.now)
            rolled_out = self.rolled_out(r.user_id, index, self.now) and not self.elsewhere(
                r.user_id, index, self.now
            )
            source = (
                ("assignment" if override.included else "exclusion")
                if override
                else ("rollout" if rolled_out else "none")
            )
            assert (r.member, r.source) == (self.member(r.user_id, index, self.now), source)
            assert round(r.bucket_percent * 1000) == self.segments[index].buckets[r.user_id]


@pytest.fixture
def model(database_url: str) -> Iterator[type[Membership]]:
    """The state machine on one connection; every example ends in a rollback."""
    with psycopg.connect(database_url, options=OPTIONS, row_factory=namedtuple_row) as connection:
        Membership.connection = connection
        yield Membership
        connection.rollback()


def test_random_histories_equal_the_plain_python_model(model: type[Membership]) -> None:
    """After each step all answers equal those of the model."""
    run_state_machine_as_test(
        model,
        settings=settings(
            max_examples=50,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
