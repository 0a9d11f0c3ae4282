"""Files that are the same for everybody: compressed once, and answered with 304 to a client that has them."""

import gzip
import hashlib
import re
from functools import cached_property
from typing import Any

from litestar import Request, Response

from service.http.negotiation import takes_gzip


class File:
    """Content that stays the same as long as the process lives."""

    def __init__(self, content: bytes, media_type: str) -> None:
        self.content = content
        self.media_type = media_type
        # A weak ETag, as it stands for the plain and the compressed content.
        self.etag = f'W/"{hashlib.sha256(content).hexdigest()[:32]}"'

    @cached_property
    def zipped(self) -> bytes:
        return gzip.compress(self.content, mtime=0)

    def answer(self, request: Request[Any, Any, Any]) -> Response[bytes | None]:
        """Send it as the client takes it, or say that the client has it."""
        # Browsers ask each time, so that a page never runs with the script of another release.
        headers = {"ETag": self.etag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if is_matched(self.etag, request.headers.get("if-none-match", "")):
            return Response(None, status_code=304, headers=headers)
        if takes_gzip(request.headers.get("accept-encoding", "")):
            return Response(
                self.zipped, headers={**headers, "Content-Encoding": "gzip"}, media_type=self.media_type
            )
        return Response(self.content, headers=headers, media_type=self.media_type)


def is_matched(etag: str, if_none_match: str) -> bool:
    """Whether If-None-Match names this ETag: alone, in a list, weak or strong; a star names all."""
    return if_none_match.strip() == "*" or etag.removeprefix("W/") in re.findall(r'"[^"]*"', if_none_match)
