"""How many requests a minute an API key may send, if that is limited at all."""

from time import time
from typing import Any

from litestar import Request
from litestar.middleware.base import DefineMiddleware
from litestar.middleware.rate_limit import CacheObject, RateLimitConfig, RateLimitMiddleware
from litestar.stores.base import Store

from service.settings import Settings

MINUTE = 60


class CountInMinute(RateLimitMiddleware):
    """Litestar's own rate limit, which keeps the time of every request; their number is enough, and costs the same
    however many there are."""

    async def retrieve_cached_history(self, key: str, store: Store) -> CacheObject:
        """As many as were counted in the minute that runs."""
        now = int(time())
        number, end = map(int, (await store.get(key) or b"0 0").split())
        # Of a history only the length is asked for.
        return CacheObject(range(number), end) if end > now else CacheObject(range(0), now + MINUTE)  # type: ignore[arg-type]

    async def set_cached_history(self, key: str, cache_object: CacheObject, store: Store) -> None:
        """Count one more."""
        number = len(cache_object.history) + 1
        cache_object.history = range(number)  # type: ignore[assignment]
        await store.set(key, b"%d %d" % (number, cache_object.reset), expires_in=MINUTE)


def rate_limit(settings: Settings) -> list[DefineMiddleware]:
    """A limit by the name of the key; nothing at all where there is no limit."""
    if not settings.rate_limit_per_minute:
        return []
    config = RateLimitConfig(
        rate_limit=("minute", settings.rate_limit_per_minute),
        identifier_for_request=_name_of_key,
        middleware_class=CountInMinute,
    )
    return [config.middleware]


def _name_of_key(request: Request[Any, Any, Any]) -> str:
    name: str = request.auth.name
    return name
