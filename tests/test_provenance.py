"""What a report says of how a sweep was trained is what is known of it."""

import pytest
import yaml

from hpscan.analysis import analyze
from hpscan.importing import import_sweep
from hpscan.provenance import reproducing, setting_of, spec_told
from hpscan.spec import Spec
from hpscan.store import Store

PLACEHOLDERS = {"budget", "batch_size", "schedule", "decay_on", "optimizer", "training"}
OF_LAUNCHES = {"evaluations", "stop", "resources"}


@pytest.fixture
def imported(tmp_path):
    """The analysis of a sweep whose source says lr, wd and the loss, and what is told beside it."""

    def take_in(*told):
        source = tmp_path / "theirs.csv"
        source.write_text("lr,wd,val_loss\n0.1,0.01,1.0\n0.2,0.01,2.0\n")
        store = Store(tmp_path / f"store-{len(told)}")
        import_sweep(store, "theirs", "csv", str(source), variants=["adamw-torch"], overrides=told)
        return analyze(store, "theirs")

    return take_in


def shown(spec):
    (code,) = spec_told(spec).blocks
    return yaml.safe_load(code.text)


def test_of_an_imported_sweep_nothing_is_shown_that_its_source_does_not_say(imported):
    spec = imported().spec
    assert spec_told(spec).title == "The spec, as far as its source says it"
    assert set(shown(spec)).isdisjoint(PLACEHOLDERS | OF_LAUNCHES)
    assert shown(spec)["grid"]["variants"]["adamw-torch"] == {"lr": [0.1, 0.2], "wd": [0.01]}
    assert shown(spec)["workload"]["unknown"] == list(spec.unknown)


def test_what_is_told_beside_a_source_is_shown(imported):
    analysis = imported("budget.steps=500", "training.clip_norm=1.0")
    assert shown(analysis.spec)["budget"] == {"steps": 500}
    assert shown(analysis.spec)["training"]["clip_norm"] == 1.0
    assert set(shown(analysis.spec)).isdisjoint({"batch_size", "schedule"})


def test_training_options_that_nobody_told_are_unknown_and_not_none(imported):
    assert dict(setting_of(imported()))["Training"] == "unknown"
    assert dict(setting_of(imported("training.clip_norm=1.0")))["Training"] == "clip_norm 1.0"
    assert "Training" not in dict(setting_of(imported("training={}", "notes=all off")))


def test_the_spec_of_a_sweep_that_was_trained_here_is_complete(filled):
    spec = filled.spec("tiny")
    assert spec_told(spec).title == "The complete spec"
    assert Spec.validated(shown(spec)) == spec


def test_no_import_can_be_made_again_however_much_is_told_of_it(imported):
    told = ["budget.steps=5", "batch_size=1", "schedule=constant", "decay_on=all", "optimizer={}", "training={}"]
    analysis = imported(*told)
    assert analysis.spec.unknown == ()
    assert reproducing(analysis) == []
