"""What a client takes: the weights in Accept and Accept-Encoding, where q=0 names what it refuses."""

import re
from typing import Any

from litestar import Request
from litestar.config.compression import CompressionConfig
from litestar.datastructures import Headers
from litestar.enums import CompressionEncoding
from litestar.middleware.base import DefineMiddleware
from litestar.middleware.compression import CompressionMiddleware
from litestar.types import Receive, Scope, Send

WEIGHT = re.compile(r"\s*q\s*=\s*([01](?:\.[0-9]{0,3})?)\s*", re.IGNORECASE)


def weights(header: str) -> dict[str, float]:
    """What is named, and its weight: "gzip;q=0, br" is {"gzip": 0, "br": 1}."""
    found = {}
    for part in header.split(","):
        name, *parameters = part.split(";")
        given = [match[1] for match in map(WEIGHT.fullmatch, parameters) if match]
        found[name.strip().lower()] = float(given[0]) if given else 1.0
    return found


def takes_gzip(accept_encoding: str) -> bool:
    """Whether the client takes gzip, and would not rather have the content as it is."""
    given = weights(accept_encoding)
    weight = given.get("gzip", given.get("*", 0.0))
    return weight > 0 and weight >= given.get("identity", 0.0)


def preferred_type(request: Request[Any, Any, Any], *types: str) -> str:
    """The media type that the client prefers among these; the first one if it takes none of them."""
    given = weights(request.headers.get("accept", "*/*"))

    def is_refused(media_type: str) -> bool:
        names = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
        return next((given[name] for name in names if name in given), 0.0) == 0

    taken = [media_type for media_type in types if not is_refused(media_type)]
    return request.accept.best_match(taken, types[0])


class Gzip(CompressionMiddleware):
    """Compresses an answer while it is sent. Litestar's own takes gzip;q=0 for a wish."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if takes_gzip(Headers.from_scope(scope).get("accept-encoding", "")):
            send = self.create_compression_send_wrapper(send, CompressionEncoding.GZIP, scope)
        await self.app(scope, receive, send)


# Level 1 compresses as fast as COPY gives rows.
GZIP = DefineMiddleware(Gzip, config=CompressionConfig(backend="gzip", gzip_compress_level=1))
