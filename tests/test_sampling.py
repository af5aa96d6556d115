"""Which cells of a grid are trained, as a spec says it."""

import pytest
import yaml

from hpscan.sampling import Adaptive
from hpscan.spec import Spec, SpecError


def test_true_is_all_defaults_false_is_none_and_fields_are_given_one_by_one(make_spec):
    assert make_spec().adaptive is make_spec(adaptive=False).adaptive is make_spec(adaptive=None).adaptive is None
    assert make_spec(adaptive=True).adaptive == make_spec(adaptive={}).adaptive == Adaptive()
    assert make_spec(adaptive={"tolerance": 0.2}).adaptive == Adaptive(most_cells=Adaptive().most_cells, tolerance=0.2)


@pytest.mark.parametrize("adaptive", [True, False, {"most_cells": 1.0}])
def test_it_reads_back_as_it_was_written(make_spec, adaptive):
    spec = make_spec(adaptive=adaptive)
    assert Spec.validated(yaml.safe_load(spec.to_yaml())).adaptive == spec.adaptive


@pytest.mark.parametrize(
    ("adaptive", "message"),
    [
        ({"most_cells": 0}, "`adaptive.most_cells`: input must be greater than 0; got 0"),
        ({"most_cells": 1.5}, "`adaptive.most_cells`: input must be less than or equal to 1; got 1.5"),
        ({"tolerance": 0}, "`adaptive.tolerance`: input must be greater than 0; got 0"),
        ({"tolerance": float("inf")}, "`adaptive.tolerance`: input must be a finite number; got inf"),
        ({"cells": 3}, "`adaptive`: unknown key 'cells'; known are most_cells, tolerance"),
        (0.3, "`adaptive`: "),
    ],
    ids=str,
)
def test_what_is_no_such_option_is_refused_in_one_line(make_spec, adaptive, message):
    with pytest.raises(SpecError) as error:
        make_spec(adaptive=adaptive)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
