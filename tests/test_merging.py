import tempfile
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from hpscan.store import Store
from tests.stored import parquet_in, point, row, same


def test_a_run_trained_in_two_packs_counts_once_with_the_later_row(store):
    store.save_pack("s", "z", [row("a", "failed", minutes=0, error="boom"), row("b")], [])
    store.save_pack("s", "a", [row("a", minutes=5)], [])
    assert store.runs("s").set_index("run_id")["state"].to_dict() == {"a": "completed", "b": "completed"}


def test_a_run_that_completed_counts_before_one_that_failed_later(store):
    store.save_pack("s", "p", [row("a", minutes=0, val_loss=0.5), row("b", "diverged", minutes=0)], [])
    store.save_pack("s", "q", [row("a", "failed", minutes=5), row("b", "failed", minutes=5)], [])
    assert store.runs("s").set_index("run_id")["state"].to_dict() == {"a": "completed", "b": "diverged"}
    store.compact("s")
    assert store.runs("s").set_index("run_id")["state"].to_dict() == {"a": "completed", "b": "diverged"}


def test_the_curve_of_a_run_trained_again_is_the_later_one_alone(store):
    store.save_pack("s", "z", [row("a", "failed")], [point("a", 1), {**point("a", 2), "val_loss": 9.0}])
    store.save_pack("s", "b", [row("a", minutes=5)], [point("a", 2), point("a", 4)])
    before = store.curves("s")
    assert before[["step", "val_loss"]].to_numpy().tolist() == [[2, 1.0], [4, 1.0]]
    store.compact("s")
    assert same(store.curves("s"), before)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from("abcdef"),
            st.tuples(st.sampled_from(["completed", "diverged", "failed"]), st.integers(0, 3), st.booleans()),
            min_size=1,
        ),
        max_size=6,
    ),
    st.data(),
)
def test_compaction_changes_no_result_whenever_it_happens(packs, data):
    with tempfile.TemporaryDirectory() as folder:
        plain, compacted = Store(f"{folder}/plain"), Store(f"{folder}/compacted")
        for number, pack in enumerate(packs):
            rows = [
                row(name, state, minutes, **({"val_top5_error": 0.5} if further else {}))
                for name, (state, minutes, further) in pack.items()
            ]
            # equally good rows in several packs are not told apart: their finished_at differs, as a clock's would
            rows = [{**r, "finished_at": r["finished_at"] + timedelta(milliseconds=number)} for r in rows]
            points = [point(name, step) for name, (_, last, _) in pack.items() for step in range(last + 1)]
            for store in (plain, compacted):
                store.save_pack("s", str(number), rows, points)
            if data.draw(st.booleans()):
                compacted.compact("s")
        assert same(compacted.runs("s"), plain.runs("s"))
        assert same(compacted.curves("s"), plain.curves("s"))
        compacted.compact("s")
        assert same(compacted.runs("s"), plain.runs("s"))
        assert len(parquet_in(compacted)) <= 2
