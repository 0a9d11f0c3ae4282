"""Parameters in paths and queries are read strictly: a mistyped one is refused, and never guessed at or ignored."""

import re
from collections import Counter
from copy import copy
from datetime import datetime
from functools import cache
from typing import Annotated, Any
from urllib.parse import parse_qsl

import msgspec
from litestar.enums import ScopeType
from litestar.handlers import BaseRouteHandler
from litestar.middleware import ASGIMiddleware
from litestar.openapi.spec import OpenAPIFormat, OpenAPIType, Schema
from litestar.params import QueryParameter
from litestar.plugins import OpenAPISchemaPlugin
from litestar.types import ASGIApp, Receive, Scope, Send
from litestar.typing import FieldDefinition
from msgspec import Meta

from service.http.problems import malformed_at

# At most 100 digits. int() alone would take signs, underscores and the digits of other alphabets.
DIGITS = re.compile(r"0|[1-9][0-9]{0,99}")


class Digits(int):
    """A whole number, written as digits and nothing else."""

    @classmethod
    def read(cls, _: type, text: str) -> "Digits":
        """Refuse 1.0, 1e3, +1, 01."""
        # The default value of a parameter comes here too, and is a number.
        if not DIGITS.fullmatch(str(text)):
            raise ValueError(f"{text!r} is not a whole number in digits")
        return cls(text)


class Moment(datetime):
    """A time: RFC 3339 with its offset, nothing else."""

    @classmethod
    def read(cls, _: type, text: str) -> "Moment":
        """Refuse what datetime would guess at, such as a bare number."""
        try:
            moment = msgspec.convert(text, Annotated[datetime, Meta(tz=True)])
        except msgspec.ValidationError:
            raise ValueError(
                f"{text!r} is not an RFC 3339 time with its offset, such as 2026-11-20T12:00:00Z (a + is %2B in a URL)"
            ) from None
        return cls.fromisoformat(moment.isoformat())


TYPES: dict[Any, Schema] = {
    Digits: Schema(type=OpenAPIType.INTEGER, minimum=0),
    Moment: Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.DATE_TIME),
}
DECODERS: Any = [(lambda type_, kind=kind: type_ is kind, kind.read) for kind in TYPES]


class ParameterSchemas(OpenAPISchemaPlugin):
    """How the documentation shows these types."""

    @staticmethod
    def is_plugin_supported_type(value: Any) -> bool:
        return value in TYPES

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        """An integer or a time. Each time a copy: Litestar writes a parameter's description and default into it."""
        return copy(TYPES[field_definition.annotation])


class KnownParameters(ASGIMiddleware):
    """Refuses unknown and repeated query parameters, which would be ignored.

    No guard: Litestar copies the handler for each call of a guard, which took 9 % of what Python does for a hot read.
    """

    scopes = (ScopeType.HTTP,)

    @staticmethod
    def should_bypass_for_scope(scope: Scope) -> bool:
        """Most requests have no query."""
        return not scope["query_string"]

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Pass the request on, or answer 400."""
        handler: Any = scope["route_handler"]
        if handler.resolve_include_in_schema():
            _require_known_parameters(handler, scope["query_string"])
        await next_app(scope, receive, send)


def _require_known_parameters(handler: BaseRouteHandler, query: bytes) -> None:
    known = _query_parameters(handler)
    given = Counter(name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    takes = f"this call takes {', '.join(known) or 'none'}"
    errors = [
        {"detail": "It is given more than once", "parameter": name}
        if name in known
        else {"detail": f"There is no such parameter; {takes}", "parameter": name}
        for name, number in given.items()
        if name not in known or number > 1
    ]
    if errors:
        raise malformed_at(errors)


@cache
def _query_parameters(handler: BaseRouteHandler) -> list[str]:
    fields = handler.parsed_fn_signature.parameters
    return [
        field.kwarg_definition.name or name
        for name, field in fields.items()
        if isinstance(field.kwarg_definition, QueryParameter)
    ]
