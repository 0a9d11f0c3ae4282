"""The schemas of bodies and answers, and of the parameters that calls share."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from litestar.openapi.spec import Example
from litestar.params import PathParameter, QueryParameter
from msgspec import UNSET, Meta, Struct, UnsetType

from service.http.parameters import Digits, Moment

Slug = Annotated[
    str,
    Meta(
        description="Name of a segment: 1 to 100 letters, digits, dots, hyphens and underscores",
        examples=["AVITO_VOICE_MESSAGES"],
    ),
]
Slugs = Annotated[list[Slug], Meta(description="Names of segments", examples=[["AVITO_DISCOUNT_30"]])]
Id = Annotated[int, Meta(description="Id of a user: 1 to 9223372036854775807", examples=[1000])]
Percent = Annotated[
    float, Meta(description="Share of all users, 0 to 100, with at most three decimals", examples=[30])
]
Time = Annotated[datetime, Meta(tz=True, description="RFC 3339, UTC", examples=["2026-12-01T21:00:00Z"])]
Reason = Annotated[
    str, Meta(description="Why, in at most 2000 characters; kept in the history", examples=["winter sale"])
]


# ---------------------------------------------------------------------------------------- parameters

# Plain numbers, which the description of the calls shows.
PAGE: Any = 100
NO_ID: Any = 0
UserId = Annotated[
    Digits,
    PathParameter(
        description="Id of the user: 1 to 9223372036854775807",
        examples=[Example(summary="A user", value=1000)],
    ),
]
SlugInPath = Annotated[
    str,
    PathParameter(
        description="Slug of the segment",
        examples=[Example(summary="A segment", value="AVITO_VOICE_MESSAGES")],
    ),
]
LayerInPath = Annotated[
    str,
    PathParameter(
        description="Slug of the layer",
        examples=[Example(summary="A layer", value="AVITO_DISCOUNTS")],
    ),
]
At = Annotated[
    Moment | None,
    QueryParameter(
        description="Another moment than now, past or planned: RFC 3339, such as 2026-11-20T12:00:00Z"
    ),
]
ReasonInQuery = Annotated[
    str | None, QueryParameter(description="Why, in at most 2000 characters; kept in the history")
]

# -------------------------------------------------------------------------------------------- bodies


class Body(Struct, forbid_unknown_fields=True, kw_only=True):
    """A body: a member that its schema does not name is refused, since a mistyped one would be lost."""


class UserChange(Body):
    """Segments to put a user into and to take a user out of, all or nothing; at most 1000 together."""

    add: Annotated[Slugs, Meta(description="Segments to be in; all others stay as they are")] = []
    remove: Annotated[Slugs, Meta(description="Segments to be out of")] = []
    expires_at: Annotated[Time | None, Meta(description="When the added ones end; none: never")] = None
    ttl_seconds: Annotated[
        float | None,
        Meta(
            description="Instead of expires_at: they end after so many seconds, above 0; 0.5 is half a second"
        ),
    ] = None
    starts_at: Annotated[Time | None, Meta(description="When the added ones start; none: now")] = None
    reason: Reason | None = None


class UserIds(Body):
    """Users to ask for."""

    user_ids: Annotated[list[Id], Meta(description="At most 10,000 users", examples=[[1000, 1002, 1004]])]


class NewSegment(Body):
    """A segment to create."""

    slug: Slug
    percent: Percent = 0
    description: Annotated[str, Meta(examples=["Voice messages in chats"])] = ""
    layer: Annotated[
        Slug | None, Meta(description="Its users are in no other segment of this layer; it stays there")
    ] = None
    reason: Reason | None = None


class NewLayer(Body):
    """A layer to create."""

    slug: Slug
    description: Annotated[str, Meta(examples=["One discount per user"])] = ""
    reason: Reason | None = None


class SegmentUpdate(Body):
    """What can be changed of a segment; the slug never changes."""

    description: Annotated[str, Meta(examples=["Voice messages in chats, second version"])]
    reason: Reason | None = None


class NewRolloutStep(Body):
    """A step of a rollout."""

    percent: Percent
    starts_at: Annotated[Time | None, Meta(description="From when on; none: now")] = None
    reason: Reason | None = None


class NewReport(Body):
    """A month's report to make a link to."""

    period: Annotated[str, Meta(description="A month (UTC) that has begun", examples=["2026-11"])]
    user_id: Annotated[Id | None, Meta(description="Only this user; none: all")] = None


# ------------------------------------------------------------------------------------------- answers


class Answer(Struct, forbid_unknown_fields=True, kw_only=True):
    """An answer; PostgreSQL builds its text, and tests hold the text to this schema."""


class UserSegments(Answer):
    """The segments a user is in, sorted."""

    user_id: Id
    segments: Slugs


class UsersSegments(Answer):
    """The segments of many users, in the order asked for."""

    users: list[UserSegments]


class UserChanged(Answer):
    """What became of each segment named."""

    user_id: Id
    added: Slugs
    removed: Slugs
    rescheduled: Annotated[Slugs, Meta(description="Already assigned: only the end is another now")]
    unchanged: Slugs


class Explanation(Answer):
    """Whether a user is in a segment, and why."""

    user_id: Id
    segment: Slug
    member: bool
    source: Annotated[
        Literal["assignment", "exclusion", "rollout", "none"],
        Meta(description="By hand, out by hand, by percentage, or by nothing"),
    ]
    since: Annotated[Time | None, Meta(description="When this answer began to hold; null: it always has")]
    until: Annotated[Time | None, Meta(description="When it ceases to hold, as far as known; null: never")]
    actor: str | None
    reason: str | None
    bucket_percent: Annotated[
        float, Meta(description="In by rollout while this is below rollout_percent", examples=[12.345])
    ]
    rollout_percent: Percent


class Override(Answer):
    """An assignment or exclusion by hand, live or planned."""

    segment: Slug
    kind: Literal["assignment", "exclusion"]
    since: Annotated[Time, Meta(description="When it starts or started")]
    until: Annotated[Time | None, Meta(description="Its own end; null: none")]
    actor: str
    reason: str | None


class UserOverrides(Answer):
    """What was set by hand for a user, by segment."""

    user_id: Id
    overrides: list[Override]


class EndingOverride(Override):
    """An assignment or exclusion by hand, and whose it is."""

    user_id: Id


class EndingSoon(Answer):
    """What was set by hand and ends soon, by its end."""

    overrides: list[EndingOverride]


class UserEvent(Answer):
    """The moment a user got in or out."""

    segment: Slug
    operation: Literal["add", "remove"]
    at: Time
    cause: Literal["assigned", "removed", "expired", "rollout", "segment_deleted", "exclusive"]
    actor: str | None
    reason: str | None


class UserHistory(Answer):
    """When and why a user got in and out, by time."""

    user_id: Id
    events: list[UserEvent]


class SegmentListed(Answer):
    """A segment as lists show it."""

    slug: Slug
    description: str
    percent: Annotated[Percent, Meta(description="Of the step in force now")]
    created_at: Time
    layer: Annotated[Slug | None, Meta(description="Its users are in no other segment of this layer")]


class Segments(Answer):
    """One page of segments, by slug."""

    segments: list[SegmentListed]
    next_after: Annotated[Slug | None, Meta(description="Ask for the next page with after; null: no more")]


class RolloutStep(Answer):
    """From when until when which percentage of all users is in."""

    percent: Percent
    starts_at: Time
    ends_at: Annotated[Time | None, Meta(description="null: no end is planned")]
    actor: str
    reason: str | None


class Segment(SegmentListed):
    """A segment with all steps of its rollout."""

    salt: Annotated[
        str, Meta(description="A bigint: with it, others compute a user's bucket", examples=["42"])
    ]
    rollout: list[RolloutStep]


class Rollout(Answer):
    """All steps of a rollout, past, present and planned."""

    segment: Slug
    rollout: list[RolloutStep]


class LayerSegment(Answer):
    """What a segment of a layer holds."""

    slug: Slug
    percent: Annotated[Percent, Meta(description="Of the step in force now")]


class Layer(Answer):
    """A layer: a user is in at most one of its segments."""

    slug: Slug
    description: str
    allocated_percent: Annotated[Percent, Meta(description="What its segments hold now, together")]
    free_percent: Percent
    created_at: Time
    salt: Annotated[str, Meta(description="A bigint, which all its segments share", examples=["42"])]
    segments: list[LayerSegment]


class Layers(Answer):
    """All layers, by slug."""

    layers: list[Layer]


class Stats(Answer):
    """Exact counts over known users, and the rollout's plan against reality."""

    assigned: Annotated[int, Meta(description="In by hand")]
    excluded: Annotated[int, Meta(description="Out by hand")]
    rolled_out: Annotated[int, Meta(description="In by percentage")]
    members: Annotated[int, Meta(description="In, one way or the other")]
    planned_percent: Annotated[float, Meta(description="What the rollout has planned")]
    actual_percent: Annotated[
        float | None,
        Meta(description="What it holds of the known users without an override; null: there are none"),
    ]
    srm_p_value: Annotated[
        float | None,
        Meta(
            description="How likely such a difference is by chance (chi-square); below 0.001: a sample ratio mismatch;"
            " null: nothing to test"
        ),
    ]


class SegmentStats(Stats):
    """The counts of one segment."""

    segment: Slug


class LayerStats(Answer):
    """The counts of a layer's segments, and of the layer as a whole."""

    layer: Slug
    segments: list[SegmentStats]
    whole: Annotated[
        Stats,
        Meta(description="Its percentages and test are about users who are overridden in no segment of it"),
    ]


class Growth(Answer):
    """A segment's counts at one moment, over the users known then."""

    at: Time
    users: Annotated[int, Meta(description="Known users")]
    members: Annotated[int, Meta(description="In, one way or the other")]
    assigned: Annotated[int, Meta(description="In by hand")]
    excluded: Annotated[int, Meta(description="Out by hand")]
    rolled_out: Annotated[int, Meta(description="In by percentage")]
    planned_percent: Annotated[
        Percent | None, Meta(description="Of the step in force; null: there was no such segment")
    ]
    actual_percent: Annotated[
        float | None,
        Meta(description="Members among known users; null: none of either", examples=[30.012]),
    ]


class SegmentGrowth(Answer):
    """How a segment grew, by time."""

    segment: Slug
    growth: list[Growth]


class SegmentChange(Answer):
    """One change of a segment or its rollout."""

    at: Time
    operation: str
    description: str | None
    percent: Percent | None
    starts_at: Time | None
    actor: str
    reason: str | None


class SegmentHistory(Answer):
    """What was done to a segment, by whom and why, by time."""

    segment: Slug
    changes: list[SegmentChange]


class Live(Answer):
    """The process answers."""

    status: Literal["live"]


class Part(Answer):
    """One thing that /health/ready looks at."""

    item: str
    ok: bool
    value: str | None
    hint: Annotated[str | None, Meta(description="What to do when it is not ok")]


class Ready(Answer):
    """Everything is in place; degraded: but for a shard."""

    status: Literal["ready", "degraded"]
    parts: list[Part]


class PlaceOfError(Struct, omit_defaults=True):
    """Where a request departs from its schema."""

    detail: str
    pointer: Annotated[
        str | UnsetType, Meta(description="JSON pointer into the body", examples=["#/add/0"])
    ] = UNSET
    parameter: Annotated[str | UnsetType, Meta(description="Name of a parameter")] = UNSET


class ProblemDetails(Struct):
    """An error (RFC 9457). Members beyond these name the values concerned, such as unknown_segments."""

    type: Annotated[str, Meta(description="Explains this kind of error", examples=["/docs/errors#not_found"])]
    title: str
    status: int
    detail: Annotated[str, Meta(description="What is wrong with this very request")]
    code: Annotated[str, Meta(description="What to branch on", examples=["not_found"])]
    hint: Annotated[str | UnsetType, Meta(description="What to do next")] = UNSET
    errors: Annotated[list[PlaceOfError] | UnsetType, Meta(description="Of malformed_request")] = UNSET


class Member(Answer):
    """A user in a segment."""

    user_id: Id
    source: Annotated[Literal["assignment", "rollout"], Meta(description="By hand, or by percentage")]
    since: Annotated[Time, Meta(description="In since then")]
    until: Annotated[Time | None, Meta(description="In until then, as far as is known now; none: for ever")]


class Members(Answer):
    """One page of a segment's members, by id."""

    segment: Slug
    members: list[Member]
    next_after: Annotated[
        str | None,
        Meta(
            description="after of the next page, as text, since JavaScript rounds large numbers; none: this is the last",
            examples=["1000"],
        ),
    ]


class Imported(Answer):
    """What an import did."""

    received: Annotated[int, Meta(description="Lines with a user id", examples=[1000000])]
    changed: Annotated[int, Meta(description="Users who were changed", examples=[999000])]
    unchanged: Annotated[
        int, Meta(description="Duplicates, and users on the list for whom nothing changed", examples=[1000])
    ]
    added: Annotated[int, Meta(description="Users who were assigned", examples=[998000])]
    removed: Annotated[
        int, Meta(description="Users who were removed; replace: who is not listed", examples=[0])
    ]
    rescheduled: Annotated[int, Meta(description="Users who got another end", examples=[1000])]


class Report(Answer):
    """A link to a report."""

    url: Annotated[
        str, Meta(description="Opens without a key", examples=["http://localhost:8080/v1/reports/5e0c.csv"])
    ]
    period: Annotated[str, Meta(examples=["2026-11"])]
    expires_at: Time


# --------------------------------------------------------------------------------------------- OFREP


class EvaluationContext(Struct, kw_only=True):
    """Who asks, as OpenFeature says it; members that are not named here are welcome and not looked at."""

    targeting_key: Annotated[
        Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,18}(?!\n)$")] | int | UnsetType,
        Meta(description="Needed: id of the user, as digits or a number", examples=["1000"]),
    ] = msgspec.field(name="targetingKey", default=UNSET)


class Evaluation(Struct, kw_only=True):
    """The body of an evaluation. A missing targetingKey has an error of its own, so the schema asks for none."""

    context: EvaluationContext = msgspec.field(default_factory=EvaluationContext)


class ContextOfMany(EvaluationContext):
    """Who asks, and for which flags."""

    flags: Annotated[list[str] | None, Meta(description="Only these, at most 1000; none: all")] = None


class EvaluationOfMany(Struct, kw_only=True):
    """The body of an evaluation of many flags."""

    context: ContextOfMany = msgspec.field(default_factory=ContextOfMany)


VALUE = Meta(
    description="Of a segment whether the user is in; of a layer the segment that the user is in, or off"
)
VARIANT = Meta(description="Of a segment in or out; of a layer as value", examples=["in"])


class FlagMetadata(Answer):
    """By what, since and until when the assignment, exclusion or rollout step behind it is in force."""

    source: Literal["assignment", "exclusion", "rollout", "none"]
    since: Time | UnsetType = UNSET
    until: Time | UnsetType = UNSET


class Flag(Answer):
    """Whether a user is in a segment, as a boolean flag; or in which segment of a layer, as a string flag."""

    key: Slug
    value: Annotated[bool | str, VALUE]
    variant: Annotated[str, VARIANT]
    reason: Annotated[
        Literal["STATIC", "TARGETING_MATCH", "SPLIT"],
        Meta(description="Everyone is in; by hand, in or out; by percentage, in or out"),
    ]
    metadata: FlagMetadata


class FlagFailure(Answer, kw_only=True):
    """Why there is no value; key is there if the call was for one flag."""

    key: str | UnsetType = UNSET
    error_code: Literal[
        "PARSE_ERROR", "TARGETING_KEY_MISSING", "INVALID_CONTEXT", "FLAG_NOT_FOUND", "GENERAL"
    ] = msgspec.field(name="errorCode")
    error_details: str = msgspec.field(name="errorDetails")


class FlagOfMany(Answer, kw_only=True):
    """As Flag; or for one that was named and does not exist, errorCode and errorDetails."""

    key: str
    value: Annotated[bool | str | UnsetType, VALUE] = UNSET
    variant: Annotated[str | UnsetType, VARIANT] = UNSET
    reason: Literal["STATIC", "TARGETING_MATCH", "SPLIT"] | UnsetType = UNSET
    metadata: FlagMetadata | UnsetType = UNSET
    error_code: Literal["FLAG_NOT_FOUND"] | UnsetType = msgspec.field(name="errorCode", default=UNSET)
    error_details: str | UnsetType = msgspec.field(name="errorDetails", default=UNSET)


class Flags(Answer):
    """Segments as boolean flags and layers as string flags, by slug."""

    flags: list[FlagOfMany]
