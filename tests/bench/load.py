"""Load: wrk for the highest rate, and an open-loop client for the latency at a fixed rate."""

import asyncio
import random
import re
import shutil
import subprocess
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from time import perf_counter
from typing import NamedTuple

import uvloop

from tests.bench.server import HOT, Running

LUA = Path(__file__).with_name("random_users.lua")
CONNECTIONS = 16


def have_wrk() -> bool:
    """Whether wrk is installed."""
    return shutil.which("wrk") is not None


def throughput(server: Running, path: str, users: int, seconds: float) -> float:
    """Answers per second over 16 connections, for random users; in path, {} stands for the id."""
    done = subprocess.run(
        [
            *("wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "-s", str(LUA)),
            f"http://127.0.0.1:{server.port}",
            *("--", path, str(users), server.key, str(random.randrange(10**9))),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + 60,
    )
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise RuntimeError(f"wrk met errors:\n{done.stdout}")
    found = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    assert found, done.stdout
    return float(found[1])


@contextmanager
def meanwhile(asks: Collection[tuple[Callable[[], object], float]]) -> Iterator[None]:
    """Call each in a thread of its own, again and again, with so many seconds in between."""
    end = Event()

    def again(ask: Callable[[], object], pause: float) -> None:
        while not end.wait(pause):
            ask()

    with ThreadPoolExecutor(len(asks)) as threads:
        asking = [threads.submit(again, *each) for each in asks]
        try:
            yield
        finally:
            end.set()
            for each in asking:
                each.result()


class Latency(NamedTuple):
    """How long answers took, in milliseconds, from the moment when each request was due."""

    p50: float
    p99: float
    answers: int


def after(seconds: float) -> Callable[[], bool]:
    """Whether so many seconds have passed since the first question."""
    ends: list[float] = []

    def enough() -> bool:
        if not ends:
            ends.append(perf_counter() + seconds)
        return perf_counter() > ends[0]

    return enough


def latency(server: Running, users: int, rate: float, enough: Callable[[], bool]) -> Latency:
    """Ask for random users at a fixed rate, whether or not earlier answers are there, until it is enough."""
    return uvloop.run(_latency(server, users, rate, enough))


async def _latency(server: Running, users: int, rate: float, enough: Callable[[], bool]) -> Latency:
    due: asyncio.Queue[float] = asyncio.Queue()
    taken: list[float] = []
    clients = [asyncio.create_task(_client(server, users, due, taken)) for _ in range(2 * CONNECTIONS)]
    try:
        started = perf_counter()
        number = 0
        while not enough() and not any(client.done() for client in clients):
            number += 1
            moment = started + number / rate
            if (wait := moment - perf_counter()) > 0:
                await asyncio.sleep(wait)
            due.put_nowait(moment)
        while len(taken) < number:
            await asyncio.wait(clients, timeout=0.01, return_when=asyncio.FIRST_COMPLETED)
            for client in clients:
                if client.done():
                    client.result()
    finally:
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
    taken.sort()
    return Latency(_percentile(taken, 0.5), _percentile(taken, 0.99), len(taken))


async def _client(server: Running, users: int, due: "asyncio.Queue[float]", taken: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        while True:
            moment = await due.get()
            path = HOT.format(random.randint(1, users))
            writer.write(
                f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {server.key}\r\n\r\n".encode()
            )
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]))
            if b" 200 " not in head.partition(b"\r\n")[0]:
                raise RuntimeError(f"the service answered {head.decode()}")
            taken.append(1000 * (perf_counter() - moment))
    finally:
        writer.close()


def _percentile(taken: list[float], share: float) -> float:
    return taken[min(len(taken) - 1, int(len(taken) * share))]
