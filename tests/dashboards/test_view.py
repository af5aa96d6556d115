"""Every view is a URL, and no URL is an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpscan.dashboards.view import MOST_TOLERANCE, SCALES, SHOWN, View

views = st.builds(
    View,
    maps=st.lists(st.text(min_size=1), max_size=3, unique=True).map(tuple),
    metric=st.sampled_from(["", "val_loss", "rotation"]),
    shows=st.sampled_from([*SHOWN, "0", "12"]),
    scale=st.sampled_from(SCALES),
    clip=st.integers(1, 20).map(lambda k: 5.0 * k),
    step=st.none() | st.integers(0, 10**6),
    units=st.sampled_from(["", "paper", "torch"]),
    tolerance=st.integers(0, int(MOST_TOLERANCE)).map(float),
    iso=st.booleans(),
)


@given(views)
def test_a_view_comes_back_from_its_url(view):
    assert View.from_query(view.to_query()) == view


@given(views)
def test_a_view_comes_back_from_the_browser(view):
    assert View.from_data(view.to_data()) == view


def test_the_plain_view_has_no_query():
    assert View().to_query() == ""
    assert View.from_query(None) == View.from_query("") == View()


@given(st.text())
def test_any_text_is_some_view(query):
    view = View.from_query(query)
    assert view.scale in SCALES
    assert 5 <= view.clip <= 100
    assert view.shows in SHOWN or view.seed is not None


def test_nonsense_is_left_at_its_default():
    assert View.from_query("?clip=wide&step=soon&scale=cubic&units=si&shows=all") == View()


@pytest.mark.parametrize(
    "query", ["clip=nan", "tolerance=nan", "step=-1", f"step={2**63}", f"shows={'9' * 5000}", "clip=nan&tolerance=nan"]
)
def test_numbers_that_nothing_can_be_drawn_by_are_left_at_their_default(query):
    assert View.from_query(query) == View()


def test_a_basin_is_as_wide_as_can_be_chosen():
    assert View.from_query("?tolerance=40").tolerance == View.from_query("?tolerance=inf").tolerance == MOST_TOLERANCE
    assert View.from_query("?tolerance=-1").tolerance == 0


def test_sweeps_of_a_comparison_come_first():
    assert View(metric="gap").to_query(["a", "b c"]) == "?sweep=a&sweep=b+c&metric=gap"
