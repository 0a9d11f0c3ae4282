"""Changes that can be followed: one stretch of time as CSV, with a link to the next."""

from datetime import datetime
from functools import partial
from typing import Annotated

from litestar import get
from litestar.openapi.spec import Example
from litestar.params import QueryParameter

from service.docs.openapi import csv_rows, header
from service.http.answers import Csv
from service.http.bodies import ApiRequest
from service.http.negotiation import GZIP
from service.http.parameters import Moment


@get(
    "/v1/changes",
    middleware=[GZIP],
    response_headers=header("Link", "The next stretch: it goes on where this one ends"),
    responses=csv_rows("1000;AVITO_VOICE_MESSAGES;add;2026-11-20T12:00:00.000000Z\n"),
)
async def follow_changes(
    request: ApiRequest,
    from_time: Annotated[
        Moment,
        QueryParameter(
            name="from",
            description="From this moment on (RFC 3339): where the stretch before ended",
            examples=[Example(value="2026-11-01T00:00:00Z")],
        ),
    ],
    to_time: Annotated[
        Moment | None,
        QueryParameter(
            name="to", description="Up to, but not at, this moment; none: as far as it is settled"
        ),
    ] = None,
) -> Csv:
    """Who got in or out, stretch after stretch.

    `user_id;segment;operation;at` by time, user, segment, expiries and ramps too. The header `Link` leads to the next
    stretch: whoever asks again and again with the link of before gets every change exactly once, however long other
    transactions run. Up to when changes are settled is usually a moment ago; a `to` beyond it is refused, and
    `settled_until` says it. Role: editor.
    """
    end = await request.auth.call("http_changes_end", from_time=from_time, to_time=to_time)
    stretch = {"from_time": from_time, "to_time": datetime.fromisoformat(end)}
    copy = partial(request.auth.copy, "membership_changes", "*", stretch, delimiter=";")
    path = f"{request.scope.get('app_root_path', '')}/v1/changes"
    return Csv(copy, "changes.csv", None, (b"link", f'<{path}?from={end}>; rel="next"'.encode()))
