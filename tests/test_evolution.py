import numpy as np
import pandas as pd
import pytest

from hpscan.evolution import evolution
from hpscan.spec import SpecError
from tests.curves import curves_of, with_run_ids


def test_every_evaluation_is_a_landscape_of_its_own(make_landscape):
    shape = with_run_ids(make_landscape(np.arange(12.0).reshape(2, 2, 3)))
    curves = curves_of(shape, steps=(10, 20, 30), value=lambda z, step: z + 30 - step)
    trained = evolution(shape, curves.sample(frac=1, random_state=0))
    assert [step for step, _ in trained] == [10, 20, 30]
    np.testing.assert_array_equal(trained[0][1].z, shape.z + 20)
    np.testing.assert_array_equal(trained[-1][1].mean(), shape.mean())


def test_a_run_is_diverged_from_where_its_curve_ends(make_landscape):
    shape = with_run_ids(make_landscape([[[1.0, np.inf, np.nan]]]))
    curves = curves_of(shape, steps=(10, 20), value=lambda z, step: 1.0 if step == 10 else z)
    curves = curves[curves["run_id"] != shape.run_ids[0, 0, 2]]
    (_, before), (_, after) = evolution(shape, curves)
    assert before.states[0, 0].tolist() == ["completed", "completed", "missing"]
    assert after.states[0, 0].tolist() == ["completed", "diverged", "missing"]
    assert np.isposinf(after.z[0, 0, 1])


def test_a_metric_that_no_curve_has_is_named(make_landscape):
    shape = with_run_ids(make_landscape(np.ones((1, 2, 2))))
    with pytest.raises(SpecError, match="curves have val_loss, and no ensemble_val_loss"):
        evolution(shape, pd.DataFrame({"run_id": [""], "step": [1], "val_loss": [1.0]}), "ensemble_val_loss")
