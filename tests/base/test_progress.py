"""Progress in plain lines, as a log file shows it."""

from __future__ import annotations

import pytest

from dapa_exp.base import progress
from dapa_exp.base.progress import Progress, Remark, display


def test_a_pace_is_of_what_was_done_since_and_is_told_once_it_means_something(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 0.0001, 10.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with display() as report:
        report(Progress("search", 40, 200))  # of an earlier attempt
        report(Progress("search", 200, 200))
        report(Progress("search", 60, 200))
    first, at_once, later = capfd.readouterr().err.splitlines()
    assert first == "search: 40/200"
    assert at_once == "search: 200/200"
    assert later == "search: 60/200 (2/s, 70 s left)"


def test_a_remark_is_shown_once_and_as_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    with display() as report:
        for _ in range(2):  # two runs of one pair
            report(Remark("note: mine", 0, note="dtype: teacher [float32], student float16"))
    assert capfd.readouterr().err == "note: mine: dtype: teacher [float32], student float16\n"
