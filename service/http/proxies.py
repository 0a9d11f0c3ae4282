"""A proxy in front of the service: whose word for the client's address and scheme is taken, and which path it adds."""

from ipaddress import IPv4Network, ip_network
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Settings are read by commands too, which do without Litestar.
    from litestar.types import ASGIApp, Message, Receive, Send


def behind_proxies(app: "ASGIApp", trusted: str, root_path: str) -> "ASGIApp":
    """Wrap the app as these two settings want it: not at all where they are empty."""
    if root_path:
        app = UnderPath(app, root_path)
    if trusted:
        # Only now: the settings of a command need nothing of the server.
        from granian.utils.proxies import wrap_asgi_with_proxy_headers

        app = wrap_asgi_with_proxy_headers(app, trusted_networks(trusted))
    return app


def trusted_networks(trusted: str) -> list[str] | str:
    """Read addresses and networks with commas between them, or raise ValueError."""
    if trusted == "*":
        return trusted
    networks = [ip_network(each.strip()) for each in trusted.split(",")]
    # So an IPv4 client looks on a socket that listens to IPv6 as well.
    mapped = [
        f"::ffff:{each.network_address}/{96 + each.prefixlen}"
        for each in networks
        if isinstance(each, IPv4Network)
    ]
    return [*map(str, networks), *mapped]


class UnderPath:
    """Serves the app under a path, whether the proxy takes the path off or leaves it there."""

    def __init__(self, app: "ASGIApp", root_path: str) -> None:
        """Put this path before the paths of links."""
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Any, receive: "Receive", send: "Send") -> None:
        """Pass a request on without the path, and an answer with it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        inside = _without(scope["path"], self._root_path)
        raw = _without(scope["raw_path"].decode("latin-1"), self._root_path).encode("latin-1")
        # Litestar puts app_root_path before its links. Its root_path it would look for anywhere in the path.
        below: Any = {**scope, "path": inside, "raw_path": raw, "app_root_path": self._root_path}

        async def send_on(message: "Message") -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    (name, self._root_path.encode() + value)
                    if name == b"location" and value.startswith(b"/")
                    else (name, value)
                    for name, value in message["headers"]
                ]
            await send(message)

        await self._app(below, receive, send_on)


def _without(path: str, root_path: str) -> str:
    return path[len(root_path) :] or "/" if f"{path}/".startswith(f"{root_path}/") else path
