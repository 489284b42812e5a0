# SPDX-License-Identifier: Apache-2.0
"""The time left: from what turns have taken, and from what they usually take before there are any."""

from __future__ import annotations

import pytest

from bench.figures import FIGURES
from bench.progress import Display, Forecast, in_words

USUAL = {"pps": 20.0, "flows": 90.0}


def test_before_the_first_turn_the_usual_times_count() -> None:
    assert Forecast(["pps", "pps", "flows"], USUAL).left() == 130


def test_turns_of_a_figure_take_what_those_before_took() -> None:
    forecast = Forecast(["pps", "pps", "pps", "pps"], USUAL)
    forecast.note(10)
    forecast.note(14)
    assert forecast.left() == 24


def test_a_figure_not_seen_yet_is_as_much_faster_as_the_others_were() -> None:
    forecast = Forecast(["pps", "pps", "flows"], USUAL)
    forecast.note(5)
    assert forecast.left() == pytest.approx(5 + 90 / 4)


def test_nothing_is_left_after_the_last() -> None:
    forecast = Forecast(["pps"], USUAL)
    forecast.note(3)
    assert forecast.left() == 0


@pytest.mark.parametrize(("seconds", "words"), [(0, "0 s"), (89.4, "89 s"), (90, "2 min"), (3000, "50 min")])
def test_the_time_left_is_told_in_seconds_or_minutes(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_without_a_terminal_there_are_lines_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(["pps", "flows"], USUAL) as display:
        display.begin("1/2 pps")
        display.end("1/2 pps: [100] kpps", 2.0)
        display.begin("2/2 flows")
        display.end("2/2 flows: 1 kpps", 2.0)
    assert capsys.readouterr() == ("", "1/2 pps: [100] kpps\n2/2 flows: 1 kpps\n")


def test_every_figure_says_how_long_it_takes() -> None:
    assert all(figure.seconds > 0 for figure in FIGURES.values())
