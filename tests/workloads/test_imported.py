"""Results that were trained elsewhere."""

import pytest

from hpscan.workloads import WorkloadError
from hpscan.workloads.imported import Imported

THEIRS = Imported(kind="csv", source="their.csv", unknown=("budget", "schedule"))


def test_where_results_came_from_is_what_tells_them_apart():
    assert THEIRS.identity() == {"name": "imported", "kind": "csv", "source": "their.csv"}
    assert THEIRS.identity() == THEIRS.model_copy(update={"unknown": ()}).identity()
    assert THEIRS.identity() != THEIRS.model_copy(update={"source": "other.csv"}).identity()
    assert THEIRS.identity() != THEIRS.model_copy(update={"width": 8}).identity()


@pytest.mark.parametrize(("width", "path"), [(None, ()), (64, ("width",))])
def test_a_width_is_there_if_the_source_has_one(width, path):
    assert THEIRS.model_copy(update={"width": width}).width_path == path


def test_it_is_not_launched_and_has_no_epochs():
    with pytest.raises(WorkloadError, match=r"workload: imported from their\.csv, there is nothing here to train"):
        THEIRS.resolved()
    with pytest.raises(WorkloadError, match="budget: must be in steps for an imported sweep"):
        _ = THEIRS.n_train
