"""A proxy in front of the service: whose X-Forwarded headers count, and which path it adds."""

from ipaddress import IPv4Network, ip_network
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Settings are read by commands too, which do without Litestar.
    from litestar.types import ASGIApp, Message, Receive, Send


def behind_proxies(app: "ASGIApp", trusted: str, root_path: str) -> "ASGIApp":
    """Wrap the app as these two settings say; not at all if they are empty."""
    if root_path:
        app = UnderPath(app, root_path)
    if trusted:
        # Imported here, as commands read the settings without the server.
        from granian.utils.proxies import wrap_asgi_with_proxy_headers

        app = wrap_asgi_with_proxy_headers(app, trusted_networks(trusted))
    return app


def trusted_networks(trusted: str) -> list[str] | str:
    """Read addresses and networks with commas between them, or raise ValueError."""
    if trusted == "*":
        return trusted
    networks = [ip_network(each.strip()) for each in trusted.split(",")]
    # On a socket for IPv4 and IPv6, an IPv4 client has such an address.
    mapped = [
        f"::ffff:{each.network_address}/{96 + each.prefixlen}"
        for each in networks
        if isinstance(each, IPv4Network)
    ]
    return [*map(str, networks), *mapped]


class UnderPath:
    """Serves the app under a path, whether the proxy takes the path off or leaves it there."""

    def __init__(self, app: "ASGIApp", root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Any, receive: "Receive", send: "Send") -> None:
        """Pass a request on without the prefix; put the prefix before a Location in the answer."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        inside = _without(scope["path"], self._root_path)
        raw = _without(scope["raw_path"].decode("latin-1"), self._root_path).encode("latin-1")
        # Litestar puts app_root_path before its links. It would cut root_path out of the middle of a path as well.
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
