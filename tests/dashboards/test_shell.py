"""The frame of a page, and its small parts."""

import pytest

from hpscan.dashboards import shell

from .conftest import parts_of, text_of

HOSTILE = "<b>&\"'"


@pytest.mark.parametrize("signed_in", [True, False])
def test_only_who_has_signed_in_can_sign_out(signed_in):
    links = {link.href for link in parts_of(shell.shell("store", launches=True, signed_in=signed_in), "A")}
    assert ("/logout" in links) is signed_in


def test_the_frame_says_whether_anything_can_be_launched():
    assert "launching is on" in text_of(shell.shell("store", launches=True, signed_in=False))
    assert "view only" in text_of(shell.shell("store", launches=False, signed_in=False))


def test_what_is_copied_is_what_is_shown():
    page = [shell.code("one", HOSTILE), shell.command("two", HOSTILE), shell.empty("Nothing", "why", HOSTILE)]
    shown = {
        part.id: text_of(part) for kind in ("Pre", "Code") for part in parts_of(page, kind) if getattr(part, "id", None)
    }
    assert {clip.target_id: HOSTILE for clip in parts_of(page, "Clipboard")} == shown
    assert not parts_of(shell.empty("Nothing", "why"), "Clipboard")


def test_facts_keep_their_order_and_explain_those_that_can_be():
    told = shell.facts([("b", HOSTILE), ("a", 2)], about={"a": "more", "c": "absent"})
    assert [(term.children, term.title) for term in parts_of(told, "Dt")] == [("b", None), ("a", "more")]
    assert [value.children for value in parts_of(told, "Dd")] == [HOSTILE, 2]


def test_a_chip_s_kind_is_one_class():
    assert shell.chip("not separable", "not separable").className == "chip not-separable"
