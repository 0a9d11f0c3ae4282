"""How many requests a minute an API key may send, if that is limited at all."""

from typing import Any

from litestar import Request
from litestar.middleware.base import DefineMiddleware
from litestar.middleware.rate_limit import RateLimitConfig

from service.settings import Settings


def rate_limit(settings: Settings) -> list[DefineMiddleware]:
    """Litestar's own rate limit, by the name of the key; nothing at all where there is no limit."""
    if not settings.rate_limit_per_minute:
        return []
    config = RateLimitConfig(
        rate_limit=("minute", settings.rate_limit_per_minute),
        identifier_for_request=_name_of_key,
    )
    return [config.middleware]


def _name_of_key(request: Request[Any, Any, Any]) -> str:
    name: str = request.auth.name
    return name
