"""The script of docker-compose.yaml that migrates a router and its shards does so."""

from pathlib import Path

import psycopg
import pytest

from tests.compose import run
from tests.conftest import Database
from tests.shards.conftest import Shards


@pytest.fixture
def volume(tmp_path: Path, shards: Shards) -> Path:
    """The secrets, of which the URLs are those of the servers here."""
    volume = tmp_path / "secrets"
    volume.mkdir()
    run("secrets", volume)
    for name, url in shards.urls.items():
        (volume / f"{name}.migrate.url").write_text(url)
    return volume


def test_it_migrates_the_router_and_its_shards(shards: Shards, router: Database, volume: Path) -> None:
    password = (volume / "router.url").read_text().split(":")[2].partition("@")[0]
    migrated = run("router-migrate", volume, USER="migrate")
    for name in shards.urls:
        shards.take_clock(name)
    for said in ("shard s0:", "shard s1:", "shard s0 follows the catalog", "the database is at version"):
        assert said in migrated.stdout
    url = shards.urls["router"].rpartition("@")[2]
    with psycopg.connect(f"postgresql://segmentation_service:{password}@{url}") as service:
        assert service.execute("select current_user").fetchone() == ("segmentation_service",)
    assert router.rows("select * from users_segments('{1}')")
