"""`hpscan doctor` as a user calls it: a line a check, and an exit code for all."""

import json

import pytest

from hpscan.doctor import Check

CHECKS = [
    Check("store", "ok", "results can be [written]"),
    Check("compiler", "warn", "no g++", "apt-get install g++ python3-dev"),
    Check("GPUs", "fail", "torch sees none", "pip install torch"),
]


@pytest.fixture
def found(monkeypatch):
    """Replace the checks; says what they were asked."""
    asked = []

    def use(checks):
        monkeypatch.setattr("hpscan.doctor.checks", lambda *given: asked.append(given) or iter(checks))
        return asked

    return use


def test_each_check_is_a_line_and_what_to_do_another(hpscan, found):
    asked = found(CHECKS)
    code, out, err = hpscan("doctor", "--store", "s3://bucket/x", "--address", "auto")
    assert (code, err, asked) == (1, "", [("s3://bucket/x", "auto")])
    assert out.splitlines() == [
        "ok    store: results can be [written]",
        "warn  compiler: no g++",
        "      apt-get install g++ python3-dev",
        "fail  GPUs: torch sees none",
        "      pip install torch",
    ]


def test_a_warning_is_no_failure(hpscan, found):
    found(CHECKS[:2])
    assert hpscan("doctor")[0] == 0


@pytest.mark.parametrize(("n", "ok"), [(2, True), (3, False)])
def test_for_programs_it_is_one_object(hpscan, found, n, ok):
    found(CHECKS[:n])
    code, out, err = hpscan("doctor", "--json")
    assert (code, err) == (0 if ok else 1, "")
    told = json.loads(out)
    assert told["ok"] is ok
    assert [Check(**check) for check in told["checks"]] == CHECKS[:n]
