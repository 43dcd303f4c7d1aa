"""One hub by lock."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.errors import StoreLocked
from holdfast.store import migrations
from holdfast.store.lock import HubLock
from holdfast.store.registry import open_store


def test_a_second_hub_hears_who_holds_the_lock(tmp_path: Path) -> None:
    lock = HubLock(tmp_path)
    with pytest.raises(StoreLocked, match=rf"pid {os.getpid()}\b"):
        HubLock(tmp_path)
    lock.release()
    lock.release()
    HubLock(tmp_path).release()


def test_a_killed_hub_leaves_no_lock(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys\n"
        "from holdfast.store.lock import HubLock\n"
        "lock = HubLock(pathlib.Path(sys.argv[1]))\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as hub:
        assert hub.stdout is not None
        assert hub.stdout.readline() == b"held\n"
        with pytest.raises(StoreLocked, match=str(hub.pid)):
            HubLock(tmp_path)
        hub.kill()
        hub.wait()
    HubLock(tmp_path).release()


async def test_opening_takes_the_lock_and_closing_gives_it_back(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/holdfast.db"
    migrations.upgrade(url)
    store = open_store(url, home=tmp_path)
    with pytest.raises(StoreLocked):
        open_store(url, home=tmp_path)
    await store.close()
    await open_store(url, home=tmp_path).close()
