"""granian serves the app: the socket it listens on, its processes, and how they stop without losing a request.

A request is lost where a connection is closed that the client has just used. So a process that is told to stop goes
on answering for a moment (FAREWELL), each time with Connection: close, so that clients leave by themselves; and
the kernel lets a connection be accepted only with its first bytes, so that none is accepted and then closed unread.
A socket that is closed resets the connections that wait in it. So the old process and the new one share one socket:
systemd holds it for both, or the new process gets it from the old one.
"""

import asyncio
import gc
import logging
import logging.config
import multiprocessing
import os
import resource
import signal
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from time import monotonic, sleep
from typing import Any

import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings, HTTP2Settings
from granian.log import LogLevels
from granian.net import SocketHolder  # type: ignore[attr-defined]
from granian.server.embed import Server

from service.http.connections import Farewell
from service.http.logs import log_config
from service.settings import Settings, SettingsError

log = logging.getLogger(__name__)

AppFactory = Callable[[], Any]

# Seconds in which clients that are connected learn that they must connect anew.
FAREWELL = 1.0
# Connections that the kernel holds until a worker takes them in.
BACKLOG = 1024
# A worker that ends by itself is started again, but not more often than this.
PAUSE = 1.0


def serve(settings: Settings, create_app: AppFactory) -> None:
    """Serve until told to stop: SIGTERM stops without losing a request, SIGINT (Ctrl-C) sooner."""
    logging.config.dictConfig(logs(settings))
    open_files_for(settings.max_connections)
    listener = Listener(settings.host, settings.port)
    if settings.workers == 1:
        work(settings, listener.socket, create_app, listener)
    else:
        supervise(settings, listener, create_app)


def logs(settings: Settings) -> dict[str, Any]:
    """Where log lines go; granian's as all others."""
    return log_config(settings.log_level, settings.log_format) | {"loggers": {}}


def open_files_for(connections: int) -> None:
    """Raise the limit of open files to what the connections need and some more, as far as the system allows."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(now, min(most, connections + 1000)), most))


# --------------------------------------------------------------------------------------------- the socket


class Listener:
    """The socket to listen on, and another one on which it is handed over to the next process."""

    def __init__(self, host: str, port: int) -> None:
        """Take the socket that systemd holds, or that another process of ours listens on; or else make one."""
        self.address = f"port {port} of {host}"
        # In Linux's abstract namespace: no file, and gone with the last process that holds it.
        self._name = f"\0segmentation {host} {port}"
        self._offer: socket.socket | None = None
        if os.environ.pop("LISTEN_PID", "") == str(os.getpid()):
            # The sockets that systemd hands over begin at 3.
            self.socket = socket.socket(fileno=3)
        elif not self._is_handed_over():
            self.socket = self._bind(host, port)
            self._offer = socket.socket(socket.AF_UNIX)
            self._offer.bind(self._name)
            self._offer.listen()
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Closes connections whose client is gone without closing them.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
        # The kernel waits a second for a connection's first bytes before it lets a process accept it.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)

    @property
    def offers(self) -> list[socket.socket]:
        """What is readable when another process asks for the socket."""
        return [self._offer] if self._offer else []

    def hand_over(self) -> None:
        """Give the socket, and the right to hand it on, to a process of the same user that asks for it."""
        assert self._offer
        with suppress(OSError), self._offer.accept()[0] as connection:
            if _user_of(connection) == os.getuid():
                log.info("another process listens on %s as well", self.address)
                socket.send_fds(connection, [b"."], [self.socket.fileno(), self._offer.fileno()])

    def close(self) -> None:
        """Close it in this process; others that hold it go on."""
        self.socket.close()
        if self._offer:
            self._offer.close()
            self._offer = None

    def _is_handed_over(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            try:
                connection.connect(self._name)
            except OSError:
                return False
            if _user_of(connection) == os.getuid():
                with suppress(TimeoutError):
                    _, numbers, _, _ = socket.recv_fds(connection, 1, 2)
                    if len(numbers) == 2:
                        self.socket, self._offer = (socket.socket(fileno=number) for number in numbers)
                        log.warning(
                            "another process listens on %s as well, until it is stopped", self.address
                        )
                        return True
        return False

    def _bind(self, host: str, port: int) -> socket.socket:
        try:
            family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            bound = socket.socket(family, kind)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # IPv4 as well: HOST=:: is every address there is.
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            bound.bind(address)
        except OSError as error:
            raise SettingsError(
                f"cannot listen on {self.address}: {error.strerror}; choose others by HOST and PORT."
            ) from error
        return bound


def _user_of(connection: socket.socket) -> int:
    """The user at the other end, as the kernel knows it."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


# ------------------------------------------------------------------------------------------- one process


def work(
    settings: Settings, bound: socket.socket, create_app: AppFactory, listener: Listener | None = None
) -> None:
    """Serve from this process; hand over the listener, unless the process that started this one does."""
    uvloop.run(_work(settings, bound, create_app, listener))


async def _work(
    settings: Settings, bound: socket.socket, create_app: AppFactory, listener: Listener | None
) -> None:
    loop = asyncio.get_running_loop()
    told, hurried = asyncio.Event(), asyncio.Event()

    def stop(*, now: bool = False) -> None:
        # A second signal skips the farewell.
        if now or told.is_set():
            hurried.set()
        told.set()

    def orphaned(sentinel: int) -> None:
        loop.remove_reader(sentinel)
        stop()

    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_signal_handler(signal.SIGINT, lambda: stop(now=True))
    if parent := multiprocessing.parent_process():
        # A parent that is killed cannot stop its workers, which would hold the port for ever.
        loop.add_reader(parent.sentinel, orphaned, parent.sentinel)

    def ready() -> None:
        # What is there now stays: the garbage collector need not look at it again and again.
        gc.freeze()
        # granian listens a moment later, when somebody may have read that we are ready.
        bound.listen(BACKLOG)
        log.info("ready on port %d of %s", settings.port, settings.host)
        _tell_systemd("READY=1")

    app = Farewell(create_app(), on_startup=ready)
    server = Granian(app, bound, settings)
    if listener:
        for offer in listener.offers:
            loop.add_reader(offer, listener.hand_over)
    serving = loop.create_task(server.serve())
    telling = loop.create_task(told.wait())
    await asyncio.wait({serving, telling}, return_when=asyncio.FIRST_COMPLETED)
    telling.cancel()
    if listener:
        for offer in listener.offers:
            loop.remove_reader(offer)
        listener.close()
    # granian has a copy, and closes it.
    bound.close()
    if told.is_set():
        app.is_leaving = True
        try:
            async with asyncio.timeout(min(FAREWELL, settings.shutdown_timeout)):
                await hurried.wait()
        except TimeoutError:
            pass
        server.stop()  # type: ignore[no-untyped-call]
        await asyncio.wait({serving}, timeout=settings.shutdown_timeout)
        if not serving.done():
            log.warning("requests took longer than SHUTDOWN_TIMEOUT and are broken off")
            serving.cancel()
            return
    await serving


class Granian(Server):
    """granian, embedded in this process, on a socket that is open already."""

    def __init__(self, app: Any, bound: socket.socket, settings: Settings) -> None:
        """Pass our settings on."""
        # Idle connections are closed by it as well.
        patience = round(1000 * settings.keep_alive_timeout)
        super().__init__(
            app,
            interface=Interfaces.ASGI,
            http=HTTPModes.auto,
            websockets=False,
            backlog=BACKLOG,
            backpressure=settings.max_connections,
            http1_settings=HTTP1Settings(
                header_read_timeout=patience, max_buffer_size=settings.max_head_bytes
            ),
            http2_settings=HTTP2Settings(
                keep_alive_interval=patience, max_headers_size=settings.max_head_bytes
            ),
            log_level=LogLevels.error,
            log_dictconfig=logs(settings),
        )
        self._holder = SocketHolder(os.dup(bound.fileno()), False, BACKLOG)  # type: ignore[call-arg]

    def _init_shared_socket(self) -> None:
        self._shd: Any = self._holder


def _tell_systemd(state: str) -> None:
    """Tell systemd, if it started this service and waits to be told (Type=notify)."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)


# -------------------------------------------------------------------------------------- several processes


def supervise(settings: Settings, listener: Listener, create_app: AppFactory) -> None:
    """Serve from several processes that share the socket, and start those again that end by themselves."""
    workers: dict[Any, SpawnProcess] = {}
    ends_at: float | None = None

    def start() -> None:
        worker = multiprocessing.get_context("spawn").Process(
            target=_start, args=(settings, listener.socket, create_app)
        )
        worker.start()
        workers[worker.sentinel] = worker
        if ends_at is not None:
            worker.terminate()

    def stop(number: int, _: Any) -> None:
        nonlocal ends_at
        ends_at = monotonic() + FAREWELL + settings.shutdown_timeout + PAUSE
        for worker in workers.values():
            if worker.pid:
                os.kill(worker.pid, number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    for _ in range(settings.workers):
        start()
    while workers:
        for ready in wait([*workers, *listener.offers], timeout=PAUSE):
            if ready not in workers:
                listener.hand_over()
                continue
            worker = workers.pop(ready)
            worker.join()
            if ends_at is None:
                log.error(
                    "worker %s ended with exit code %s and is started again", worker.pid, worker.exitcode
                )
                sleep(PAUSE)
                # Who has been told to stop meanwhile starts nobody.
                if ends_at is None:
                    start()
        if ends_at is not None:
            # By now the workers listen no more, or will not in a moment.
            listener.close()
            if monotonic() > ends_at:
                for worker in workers.values():
                    worker.kill()


def _start(settings: Settings, bound: socket.socket, create_app: AppFactory) -> None:
    logging.config.dictConfig(logs(settings))
    work(settings, bound, create_app)
