"""What an error says, in one line."""

import pytest

from hpscan.errors import at, first_line, last_line, told, told_in_short


@pytest.mark.parametrize(
    ("message", "first", "last"),
    [
        ("disk gone", "disk gone", "disk gone"),
        ("\n  Traceback\n  File x\n\nOSError: disk gone\n", "Traceback", "OSError: disk gone"),
        ("Errors in loading:\n\tmissing key\n\tothers", "Errors in loading: missing key", "others"),
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


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("x = 1\n\nraise ValueError", " (net.py, line 3)"),
        ("import json\njson.loads('{')", " (net.py, line 2)"),
        ("import torch\n\ntorch.nn.Linear(3, 4).load_state_dict({})", " (net.py, line 3)"),
        ("import nothing_of_that_name", " (net.py, line 1)"),
    ],
)
def test_an_error_is_placed_in_the_users_file_whatever_library_raised_it(tmp_path, code, told):
    with pytest.raises(Exception) as caught:
        exec(compile(code, tmp_path / "net.py", "exec"))
    assert at(caught.value.with_traceback(caught.tb.tb_next)) == told


def test_an_error_of_a_library_alone_is_placed_nowhere(tmp_path):
    folder = tmp_path / ".venv" / "lib" / "site-packages"
    with pytest.raises(ZeroDivisionError) as caught:
        exec(compile("1 / 0", folder / "net.py", "exec"))
    assert at(caught.value.with_traceback(caught.tb.tb_next)) == ""
    assert at(ValueError()) == ""


def test_a_syntax_error_is_placed_where_it_is(tmp_path):
    path = tmp_path / "net.py"
    with pytest.raises(SyntaxError) as caught:
        compile("x = 1\nif x", path, "exec")
    assert at(caught.value) == " (net.py, line 2)"
