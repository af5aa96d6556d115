"""What the API's documents hold of a store that is known."""

import json

import numpy as np

from hpscan.dashboards import documents
from hpscan.dashboards.answers import LandscapeAnswer
from hpscan.spec import Spec
from hpscan.spec_text import shipped_specs


def test_a_landscape_is_json_with_nulls_where_no_number_is(reader):
    shape = reader.shape("tiny", "sgd")
    told = documents.landscape("tiny", shape, None)
    assert LandscapeAnswer(**json.loads(json.dumps(told, allow_nan=False))).model_dump() == told
    known = np.array(told["values"], dtype=object) != None  # noqa: E711  (of each element)
    assert (known == np.isfinite(shape.z)).all()
    assert not known.all()


def test_a_sweep_that_cannot_be_read_is_told_of_and_no_error(reader):
    assert "not in the store" in documents.summary(reader, "absent").problem
    assert documents.summary(reader, "tiny").problem is None


def test_every_planned_run_has_a_row_and_those_that_are_stored_have_metrics(reader):
    every = documents.planned_runs(reader, "tiny")
    assert len(every) == 72
    assert every["run_id"].is_unique
    found = documents.run_fields(reader, "tiny", every)
    assert [each["run_id"] for each in found] == list(every["run_id"])
    for each in found:
        assert bool(each["metrics"]) is (each["state"] != "missing")


def test_a_curve_has_the_columns_that_hold_numbers(reader):
    run_id = documents.planned_runs(reader, "tiny")["run_id"].iloc[1]
    found = documents.curve(run_id, reader.curves("tiny", [run_id]))
    assert found.step == [6, 12]
    assert set(found.values) == {"val_loss", "val_error"}


def test_shipped_specs_are_counted(reader):
    for name in shipped_specs():
        told, spec = documents.shipped(name), Spec.load(name)
        assert told.variants == list(spec.variants)
        assert told.runs % len(spec.seeds) == 0
