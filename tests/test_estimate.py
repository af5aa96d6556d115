from datetime import UTC, datetime

from hpscan.estimate import estimate
from hpscan.grid import runs
from hpscan.store import Store


def stored(run, device_s=0.024):
    return {"run_id": run.run_id, "variant": run.cell.variant, "state": "completed", "device_s": device_s,
            "steps_done": run.recipe.steps, "finished_at": datetime.now(UTC)}  # fmt: skip


def test_an_unknown_sweep_is_probed_and_nothing_is_written(tmp_path, make_spec):
    cost = estimate(make_spec(), Store(tmp_path / "store"))
    assert (cost.n_runs, cost.n_stored) == (72, 0)
    assert cost.by_variant == {"sgd": 24, "sgdw": 24, "adamw": 24}
    assert 0 < cost.seconds_per_run_step < 0.01
    assert "tried uncompiled" in cost.text()
    assert not (tmp_path / "store").exists()


def test_stored_runs_say_what_a_run_costs(tmp_path, make_spec):
    spec, store = make_spec(), Store(tmp_path)
    store.save_pack(spec.name, "p", [stored(run) for run in runs(spec)[:40]], [])
    cost = estimate(spec, store)
    assert cost.n_stored == 40
    assert sum(cost.by_variant.values()) == 32
    assert cost.seconds_per_run_step == 0.024 / 12
    assert "measured on this sweep's stored runs" in cost.text()


def test_a_finished_sweep_costs_nothing(tmp_path, make_spec):
    spec, store = make_spec(), Store(tmp_path)
    store.save_pack(spec.name, "p", [stored(run) for run in runs(spec)], [])
    assert estimate(spec, store).wall_s == 0.0
    assert "0 to train" in estimate(spec, store).text()
