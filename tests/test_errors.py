"""What an error says, in one line."""

import pytest

from hpscan.errors import first_line, last_line, told, told_in_short


@pytest.mark.parametrize(
    ("message", "first", "last"),
    [
        ("disk gone", "disk gone", "disk gone"),
        ("\n  Traceback:\n  File x\n\nOSError: disk gone\n", "Traceback:", "OSError: disk gone"),
        ("", "RuntimeError", "RuntimeError"),
        (" \n", "RuntimeError", "RuntimeError"),
    ],
)
def test_a_message_of_many_lines_or_none_is_told_in_one(message, first, last):
    error = RuntimeError(message)
    assert (first_line(error), last_line(error)) == (first, last)
    none = "no message" if first == "RuntimeError" else None
    assert (first_line(error, "no message"), last_line(error, "no message")) == (none or first, none or last)


def test_an_error_that_raises_when_it_is_asked_has_its_type():
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("no words")

    assert (first_line(Mute()), last_line(Mute(), "no message")) == ("Mute", "no message")
    assert (told(Mute()), told(ValueError("two\nlines"))) == ("Mute: no message", "ValueError: two\nlines")
    assert (told_in_short(Mute()), told_in_short(ValueError("\ntwo\nlines"))) == ("Mute: no message", "ValueError: two")
    assert len(told_in_short(ValueError("code " * 1000))) == 300
