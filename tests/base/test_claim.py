"""One process at a time holds a claim, whatever is killed, whatever the clocks say. Real processes and files."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from dapa_exp.base import claim as claims
from dapa_exp.base.claim import HeldError, LostClaimError, hold, owners, this_process
from dapa_exp.base.files import remove

FORK = multiprocessing.get_context("fork")
ELSEWHERE = replace(this_process(), host="node7", machine="another", pid=4711)


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BEAT", 0.1)
    monkeypatch.setattr(claims, "STALE", 1.0)


@contextmanager
def elsewhere(name: Path, lives: bool, skew: float = 0.0) -> Iterator[Path]:
    """A claim of a process on another machine, whose clock differs by `skew` seconds."""
    path = name.with_name(f"{name.name}-elsewhere")
    path.write_text(json.dumps(asdict(ELSEWHERE)))
    os.utime(path, (0, time.time() + skew))
    over = threading.Event()

    def beat() -> None:
        while lives and not over.wait(0.1):
            os.utime(path, (0, time.time() + skew))

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        yield path
    finally:
        over.set()
        beating.join()


def test_the_one_who_holds_it_is_named(tmp_path: Path) -> None:
    with hold(tmp_path / "run", 0.1):
        with pytest.raises(HeldError, match=rf"process {os.getpid()} on .*, since 2\d\d\d-"), hold(tmp_path / "run", 0):
            pytest.fail("was held twice")
        with hold(tmp_path / "other", 0):
            pass
        (owner,) = owners([tmp_path / "run"])
        assert owner is not None
        assert owner.pid == os.getpid()
    assert owners([tmp_path / "run", tmp_path / "nowhere" / "run"]) == [None, None]
    assert not list(tmp_path.iterdir())


def count_up(name: Path, times: int) -> None:
    counter = name.with_suffix(".count")
    for _ in range(times):
        with hold(name, 60):
            now = int(counter.read_text())
            time.sleep(0.002)
            counter.write_text(str(now + 1))


def test_many_at_once_come_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "run.count").write_text("0")
    crowd = [FORK.Process(target=count_up, args=(tmp_path / "run", 10)) for _ in range(6)]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join(60)
    assert (tmp_path / "run.count").read_text() == "60"


def hold_for_ever(name: Path) -> None:
    with hold(name, 0.1):
        name.with_suffix(".held").touch()
        time.sleep(100)


def test_a_claim_is_written_though_its_holder_tidies_the_folder_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = Path.rename
    tidied: list[Path] = []

    def rename(part: Path, own: Path) -> Path:
        if not tidied:
            tidied.append(part)
            remove(part)
        return usual(part, own)

    monkeypatch.setattr(Path, "rename", rename)
    with hold(tmp_path / "claim", 0):
        assert tidied
        assert len(claims.claims(tmp_path / "claim")) == 1


@pytest.mark.parametrize("reaped", [True, False])
def test_a_killed_owner_is_replaced_at_once(tmp_path: Path, reaped: bool) -> None:
    owner = FORK.Process(target=hold_for_ever, args=(tmp_path / "run",))
    owner.start()
    while not (tmp_path / "run.held").exists():
        time.sleep(0.01)
    with pytest.raises(HeldError, match=f"process {owner.pid} "), hold(tmp_path / "run", 0.1):
        pytest.fail("was held twice")
    os.kill(owner.pid or 0, signal.SIGKILL)
    time.sleep(0.1)
    if reaped:
        owner.join()
    begun = time.monotonic()
    with hold(tmp_path / "run", 0.1):
        assert time.monotonic() - begun < claims.STALE / 2
    owner.join()


def test_another_process_with_the_number_of_a_dead_one_is_not_the_owner(tmp_path: Path) -> None:
    earlier = replace(this_process(), started="1")
    (tmp_path / "run-earlier").write_text(json.dumps(asdict(earlier)))
    assert owners([tmp_path / "run"]) == [None]
    with hold(tmp_path / "run", 0):
        pass


@pytest.mark.parametrize("skew", [0, -86400, 86400])
def test_another_machine_is_heeded_while_it_lives_whatever_its_clock_says(tmp_path: Path, skew: float) -> None:
    with elsewhere(tmp_path / "run", lives=True, skew=skew):
        with pytest.raises(HeldError, match="process 4711 on node7"), hold(tmp_path / "run", 0.1):
            pytest.fail("was held twice")
        assert owners([tmp_path / "run"]) == [ELSEWHERE]


@pytest.mark.parametrize("skew", [0, -86400, 86400])
@pytest.mark.parametrize("damaged", [False, True])
def test_another_machine_that_died_is_replaced_whatever_its_clock_said(
    tmp_path: Path, skew: float, damaged: bool
) -> None:
    with elsewhere(tmp_path / "run", lives=False, skew=skew) as path:
        if damaged:
            path.write_text('{"host": "no')
            os.utime(path, (0, time.time() + skew))
        begun = time.monotonic()
        with hold(tmp_path / "run", 0.1):
            assert claims.STALE < time.monotonic() - begun < claims.STALE + 5
            assert not path.exists()


def test_whoever_may_not_wait_leaves_another_machine_alone(tmp_path: Path) -> None:
    with (
        elsewhere(tmp_path / "run", lives=False) as path,
        pytest.raises(HeldError, match="node7"),
        hold(tmp_path / "run", 0),
    ):
        pytest.fail("was held twice")
    assert path.exists()


def test_an_owner_that_slept_too_long_is_told_before_it_writes(tmp_path: Path) -> None:
    with hold(tmp_path / "run", 0.1) as held:
        held.check()
        (ours,) = tmp_path.iterdir()
        ours.unlink()  # as another machine does after STALE seconds without a sign of life
        with pytest.raises(LostClaimError, match="another one has taken over"):
            held.check()
