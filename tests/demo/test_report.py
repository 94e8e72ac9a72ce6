"""Lines stay within 80 columns, whatever script is in them."""

import unicodedata

import pytest

from testproject.demo.report import DemoFailed, Report, clip


def columns(text):
    marks = sum(unicodedata.category(character) in {"Cf", "Mn", "Me"} for character in text)
    return len(text) - marks + sum(unicodedata.east_asian_width(character) in {"F", "W"} for character in text)


@pytest.mark.parametrize("value", ["x" * 200, "王" * 200, "🩺" * 200, "e\u0301" * 200, "short", "", "two\nlines " * 40])
def test_side_by_side_fits_and_starts_its_right_half_in_one_column(value) -> None:
    lines = []
    report = Report(lines.append)
    report.side_by_side(value, "right")
    report.side_by_side("left", value)
    report.fact(value, 1_234_567)
    report.text(f"{value} and more words")
    assert all(columns(line) <= 80 for line in lines[:3])
    assert columns(lines[0][: lines[0].index("right")]) == 44


def test_clip_marks_what_it_cut() -> None:
    assert (clip("abcdef", 4), clip("abc", 4)) == ("abc…", "abc")


def test_claim_that_does_not_hold_is_an_error() -> None:
    lines = []
    with pytest.raises(DemoFailed, match="all is well"):
        Report(lines.append).require(False, "all is well")
    assert lines == []
