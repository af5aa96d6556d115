"""What a worker does with a pack, without Ray's processes; with them: tests/e2e."""

import json
import shutil
from dataclasses import replace

import pytest

from hpscan.grid import runs
from hpscan.rungs import next_round
from hpscan.store import RUNS, Store, StoreError
from hpscan.worker import Assignment, _require, order
from hpscan.workloads import Data, Split
from tests.workers import train_through


@pytest.fixture
def worker(make_worker):
    return make_worker()


def test_a_pack_is_stored_with_everything_that_is_known_of_it(make_worker, tmp_path):
    worker = make_worker(resources={"compile": False, "pack_size": 9, "strategy": "fused"})
    (answer,) = train_through(worker)
    rows = Store(tmp_path).runs("tiny")
    pack = worker.packs[0]
    assert set(rows["run_id"]) == {run.run_id for run in pack.runs}
    assert answer["summary"].states == {"completed": len(pack.runs)}
    assert answer["summary"].best[0] == pytest.approx(rows["val_loss"].min())
    for run in pack.runs:
        row = rows.set_index("run_id").loc[run.run_id]
        assert (row["variant"], row["lr"], row["wd"], row["seed"]) == (
            run.cell.variant,
            run.cell.lr,
            run.cell.wd,
            run.seed,
        )
        assert json.loads(row["config"]) == run.config
        assert row["best_val_loss"] <= row["val_loss"]
    unknown = {"error", "git_commit", "ray_version", "python_version"}  # not given to this worker
    unknown |= {"beta1", "beta2", "eps", "gpu"}  # SGD has none, and this machine no GPU
    unknown |= {"sharpness"}  # not asked for
    assert set(rows["strategy"]) == {"fused"}
    assert rows.drop(columns=list(unknown)).notna().all(axis=None)
    assert set(rows.columns) == set(RUNS.names)
    assert len(Store(tmp_path).curves("tiny")) == 2 * len(pack.runs)


def test_an_actor_goes_on_with_another_pack(make_worker, tmp_path):
    worker = make_worker(resources={"compile": False, "pack_size": 9, "strategy": "fused"})
    train_through(worker)
    train_through(worker, worker.orders[1])
    rows = Store(tmp_path).runs("tiny")
    assert set(rows["run_id"]) == {run.run_id for pack in worker.packs[:2] for run in pack.runs}
    assert len(list((tmp_path / "tiny" / "runs").iterdir())) == 2


def test_the_parts_of_a_loop_are_stored_as_they_end(make_worker, tmp_path, monkeypatch):
    loop = {"compile": False, "pack_size": 9, "strategy": "loop"}
    whole = make_worker(name="whole", sweep="whole", resources=loop)
    assert len(train_through(whole)) == 1
    monkeypatch.setattr("hpscan.choice.PART_S", 0.0)
    monkeypatch.setattr("hpscan.choice._choices", {})
    worker, store = make_worker(resources=loop), Store(tmp_path)
    pack = worker.packs[0]
    for n, run in enumerate(pack.runs, 1):
        answer = worker.step()
        assert set(store.runs("tiny")["run_id"]) == {run.run_id for run in pack.runs[:n]}
        assert answer["done"] is (n == len(pack.runs))
        assert answer["summary"].states == {"completed": 1}
        assert answer["summary"].run_steps == run.recipe.steps
    rows, other = (store.runs(name).set_index("run_id") for name in ("tiny", "whole"))
    assert rows["val_loss"].to_dict() == other["val_loss"].to_dict()
    assert set(rows["pack_runs"]) == {1}
    assert len(set(rows["pack_id"])) == len(pack.runs)


def test_what_failed_in_the_midst_of_a_pack_leaves_the_others_alone(make_worker, tmp_path, monkeypatch):
    from hpscan import engine

    monkeypatch.setattr("hpscan.choice.PART_S", 0.0)
    monkeypatch.setattr("hpscan.choice._choices", {})
    worker = make_worker(resources={"compile": False, "pack_size": 9, "strategy": "loop"})
    train, begun = engine._train, []

    def breaks(*args):
        begun.append(args)
        if len(begun) == 3:
            raise ValueError("broke" + 3000 * "!")
        return train(*args)

    monkeypatch.setattr(engine, "_train", breaks)
    answers = train_through(worker)
    n_runs = len(worker.packs[0].runs)
    states = ["completed"] * 2 + ["failed"] + ["completed"] * (n_runs - 3)
    assert [answer["summary"].states for answer in answers] == [{state: 1} for state in states]
    rows = Store(tmp_path).runs("tiny")
    assert rows["state"].value_counts().to_dict() == {"completed": n_runs - 1, "failed": 1}
    assert set(rows["error"].dropna()) == {f"ValueError: broke{'!' * 1983}"}


def test_a_run_whose_metric_is_undefined_is_not_the_best(make_worker, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "undefined.py").write_text(
        "def train(config):\n"
        "    yield {'val_loss': 1.0, 'val_error': float('nan') if config['lr'] < 0.2 else config['lr']}\n"
    )
    worker = make_worker(workload={"trainable": "undefined:train"})
    worker.assignment = replace(worker.assignment, metric="val_error")
    *_, answer = train_through(worker)
    assert answer["summary"].states == {"completed": len(worker.packs[0].runs)}
    assert answer["summary"].best[:2] == (0.25, 0.25)
    assert set(Store(tmp_path).runs("tiny")["best_val_error"].dropna()) == {0.25}


def test_what_training_raises_is_kept_with_the_failed_runs(worker, tmp_path):
    bad = Split(worker.assignment.data.train.inputs[:, :, :5], worker.assignment.data.train.targets)
    data = Data(bad, worker.assignment.data.validation, worker.assignment.data.test)
    worker.assignment = Assignment(**{**worker.assignment.__dict__, "data": data})
    *_, answer = train_through(worker)
    rows = Store(tmp_path).runs("tiny")
    assert set(rows["run_id"]) == {run.run_id for run in worker.packs[0].runs}
    assert set(rows["state"]) == {"failed"}
    assert rows["error"].str.startswith("RuntimeError: ").all()
    assert answer["summary"].best is None


def test_a_store_that_cannot_be_written_is_told_to_the_driver(worker, tmp_path):
    (tmp_path / "tiny" / "runs").write_text("in the way")
    assert "cannot be written" in worker.step()["store_error"]


def test_a_store_that_is_gone_is_not_made_anew(worker, tmp_path):
    shutil.rmtree(tmp_path / "tiny")
    assert "not there any more" in worker.step()["store_error"]
    assert not (tmp_path / "tiny").exists()


def test_a_store_that_is_gone_is_named_without_its_keys(monkeypatch):
    monkeypatch.setattr(Store, "sweeps", lambda _: [])
    store = Store("s3://KEY:SECRET@bucket/p?endpoint_override=http://127.0.0.1:1&region=us-east-1")
    with pytest.raises(StoreError, match=r"^s3://bucket/p/tiny: is not there any more; nothing more was stored$"):
        _require(store, "tiny")


def test_a_fault_of_the_machine_makes_no_failed_runs(worker, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("hpscan.engine.train_parts", broken)
    with pytest.raises(OSError, match="Input/output"):
        worker.step()
    assert not (tmp_path / "tiny" / "runs").exists()


RECIPES = {"lr": [0.1, 0.2], "wd": [0.01], "steps": [6, 12], "batch_size": [10, 16], "width": [8, 4]}


def test_runs_of_several_recipes_are_what_they_are_in_specs_of_one(make_worker, make_spec, tmp_path):
    from hpscan.engine import train_pack
    from hpscan.grid import Pack

    worker = make_worker(variants=["sgdw"], grid=RECIPES)
    for config in worker.orders:
        train_through(worker, config)
    rows = Store(tmp_path).runs("tiny").set_index("run_id")
    assert len(rows) == 32
    assert set(zip(rows["steps"], rows["batch_size"], rows["width"], strict=True)) == {
        (steps, batch, width) for steps in (6, 12) for batch in (10, 16) for width in (4, 8)
    }
    workload = {"name": "digits", "model": {"name": "normalised_mlp", "hidden": [4]}, "train": 200}
    alone = make_spec(variants=["sgdw"], grid={"lr": [0.1, 0.2], "wd": [0.01]}, budget={"steps": 6}, batch_size=10,
                      workload=workload)  # fmt: skip
    members = tuple(runs(alone))
    for result in train_pack(Pack(members, len(members)), alone.workload.load(), compile=False):
        assert rows.loc[result.run.run_id, "val_loss"] == pytest.approx(result.metrics["val_loss"], rel=1e-6)


def test_what_compiling_pays_into_is_what_has_the_same_shapes(make_worker):
    worker = make_worker(variants=["sgdw"], grid=RECIPES)
    # of each width and batch size: two learning rates and two seeds, at 6 and at 12 steps
    assert {worker.assignment.steps_to_come(pack, {}) for pack in worker.packs} == {4 * (6 + 12)}


def test_a_first_look_is_as_long_as_the_first_packs_of_what_has_the_same_shapes(make_worker):
    worker = make_worker(variants=["sgd", "sgdw"], grid=RECIPES, resources={"pack_size": 2})
    first = [worker.assignment.pack(config) for config in worker.orders]
    assert [pack.first_look for pack in first] == [pack.first_look for pack in worker.packs]
    # of each width and batch size: two runs of each variant at 6 and at 12 steps
    at = {(pack.end, worker.assignment.first_steps(pack)) for pack in first if pack.first_look}
    assert at == {(6, 4 * 2 * 6), (12, 4 * 2 * 12)}
    assert {worker.assignment.first_steps(pack) for pack in first if not pack.first_look} == {None}


def test_what_a_worker_has_trained_is_not_to_come_any_more(make_worker):
    worker = make_worker(variants=["sgd", "adam"], resources={"pack_size": 4})
    to_come = []
    for config in worker.orders:
        to_come.append(worker.assignment.steps_to_come(worker.packs[0], worker.run_steps))
        train_through(worker, config)
    total = sum(pack.run_steps for pack in worker.packs)
    taken = [pack.run_steps for pack in worker.packs]
    assert to_come == [max(taken[0], total - sum(taken[:done])) for done in range(len(taken))]


def test_runs_at_a_rung_are_kept_with_their_rows_and_go_on_in_other_packs_with_the_same_numbers(make_worker, tmp_path):
    """Three rounds by hand, packs of the later ones made of runs of several of the first."""
    from hpscan.course import Course

    how = {"variants": ["sgdw"], "stop": {"name": "halving", "rungs": [0.25, 0.5], "reduction": 2}, "evaluations": 4}
    worker = make_worker(**how)
    spec, store, every = worker.spec, Store(tmp_path), worker.assignment.runs
    places = {run.run_id: place for place, run in enumerate(every)}
    course, told = Course(spec, str(tmp_path), every, 1, next_round(spec, store)), []
    planned = course.packs()
    assert [pack.until for pack in planned] == [3, 3, 3]
    while planned:
        for pack in planned:
            told += [answer["summary"] for answer in train_through(worker, order(pack, places))]
        planned = course.proceed(told.append)
    rows = store.runs("tiny")
    assert rows["state"].value_counts().to_dict() == {"stopped": 18, "completed": 6}
    assert sum(summary.states.get("stopped", 0) for summary in told) == 18
    assert rows.loc[rows["state"] == "stopped", ["val_loss", "test_error"]].isna().all(axis=None)
    assert sorted(set(rows.loc[rows["state"] == "stopped", "steps_done"])) == [3, 6]
    reasons = rows.loc[rows["state"] == "completed", "strategy_reason"]
    assert set(reasons) == {"goes on from a rung at step 6"}
    curves = store.curves("tiny")
    assert curves.groupby("run_id").size().sort_values().tolist() == [1] * 12 + [2] * 6 + [4] * 6

    whole = make_worker(variants=["sgdw"], evaluations=4, name="whole", sweep="whole")
    for config in whole.orders:
        train_through(whole, config)
    other = store.runs("whole").set_index("run_id")
    for row in rows[rows["state"] == "completed"].itertuples():
        assert row.val_loss == pytest.approx(other.loc[row.run_id, "val_loss"], rel=1e-6)
    paired = curves.merge(store.curves("whole"), on=["run_id", "step"])
    assert len(paired) == len(curves)
    assert paired["val_loss_x"].to_numpy() == pytest.approx(paired["val_loss_y"].to_numpy(), rel=1e-6)


def test_a_run_that_fails_beyond_a_rung_is_still_compared_by_what_it_had_there(make_worker, tmp_path, monkeypatch):
    from hpscan import engine
    from hpscan.course import Course

    monkeypatch.setattr("hpscan.choice.PART_S", 0.0)
    monkeypatch.setattr("hpscan.choice._choices", {})
    halving = {"name": "halving", "rungs": [0.25], "reduction": 2}
    how = {"variants": ["sgdw"], "seeds": [0], "stop": halving, "evaluations": 4}
    worker = make_worker(**how, resources={"compile": False, "pack_size": 9, "strategy": "loop"})
    spec, store, every = worker.spec, Store(tmp_path), worker.assignment.runs
    places = {run.run_id: place for place, run in enumerate(every)}
    course = Course(spec, str(tmp_path), every, 1, next_round(spec, store))
    for pack in course.packs():
        train_through(worker, order(pack, places))
    planned = course.proceed(lambda _: None)
    at_rung, stopped = store.curves("tiny"), set(store.runs("tiny")["run_id"])
    beyond = {run.run_id for pack in planned for run in pack.runs}
    assert len(beyond) == len(stopped) == len(every) // 2

    def breaks(*_):
        raise ValueError("broke")

    monkeypatch.setattr(engine, "_train", breaks)
    for pack in planned:
        train_through(worker, order(pack, places))
    assert store.curves("tiny").equals(at_rung)
    again = next_round(spec, store, retry_failed=True)
    assert (again.open, again.stopped) == (beyond, set())


@pytest.mark.parametrize("retry_failed", [False, True])
def test_what_failed_in_a_pack_that_was_cut_short_is_trained_again_if_that_is_asked_for(
    make_worker, tmp_path, monkeypatch, retry_failed
):
    from hpscan import engine
    from hpscan.course import Course

    monkeypatch.setattr("hpscan.choice.PART_S", 0.0)
    monkeypatch.setattr("hpscan.choice._choices", {})
    resources = {"compile": False, "pack_size": 9, "strategy": "loop", "checkpoint_s": 1e-9}
    worker = make_worker(variants=["sgdw"], seeds=[0], resources=resources)
    store, every, train, begun = Store(tmp_path), worker.assignment.runs, engine._train, []

    def breaks(session, data, clock, journal, until):
        begun.append(session.everyone[0].run.run_id)
        if len(begun) == 2:
            raise ValueError("not today")
        ended = train(session, data, clock, journal, until)
        if len(begun) == 4:
            raise OSError("its worker dies")
        return ended

    monkeypatch.setattr(engine, "_train", breaks)
    with pytest.raises(OSError, match="dies"):
        train_through(worker)
    pack, stored = worker.packs[0], store.runs("tiny").set_index("run_id")
    assert stored["state"].to_dict() == dict(
        zip((run.run_id for run in pack.runs[:3]), ["completed", "failed", "completed"], strict=True)
    )
    again = next_round(worker.spec, store, retry_failed=retry_failed)
    (rest,) = [each for each in Course(worker.spec, str(tmp_path), every, 1, again).packs() if each.rest_of]
    failed, later = pack.runs[1], pack.runs[3:]
    answers = train_through(worker, order(rest, {run.run_id: place for place, run in enumerate(every)}))
    assert begun[4:] == [run.run_id for run in [*later, *[failed] * retry_failed]]
    assert [answer["summary"].first for answer in answers] == list(range(len(rest.runs)))
    assert sum(answer["summary"].states["completed"] for answer in answers) == len(rest.runs)
    now = store.runs("tiny").set_index("run_id")
    assert now.loc[failed.run_id, "state"] == ("completed" if retry_failed else "failed")
    unchanged = stored.index if not retry_failed else stored.index.drop(failed.run_id)
    assert now.loc[unchanged, "finished_at"].equals(stored.loc[unchanged, "finished_at"])  # not stored again


def test_a_pack_whose_worker_died_counts_each_of_its_runs_once(make_worker, tmp_path, monkeypatch):
    """Tune hands out the same pack, of which some runs have ended and one has failed; then the model breaks."""
    from hpscan import engine

    monkeypatch.setattr("hpscan.choice.PART_S", 0.0)
    monkeypatch.setattr("hpscan.choice._choices", {})
    resources = {"compile": False, "pack_size": 9, "strategy": "loop", "checkpoint_s": 1e-9}
    worker = make_worker(variants=["sgdw"], seeds=[0], resources=resources)
    train, begun = engine._train, []

    def breaks(session, data, clock, journal, until):
        begun.append(session.everyone[0].run)
        if len(begun) == 2:
            raise ValueError("not today")
        ended = train(session, data, clock, journal, until)
        if len(begun) == 4:
            raise OSError("its worker dies")
        if len(begun) == 5:
            raise MemoryError  # of one run: what is left fails
        return ended

    monkeypatch.setattr(engine, "_train", breaks)
    with pytest.raises(OSError, match="dies"):
        train_through(worker)
    (answer,) = train_through(worker, worker.orders[0])
    runs_of_pack = worker.packs[0].runs
    assert begun[4:] == [runs_of_pack[3]]
    assert (answer["summary"].first, answer["summary"].states) == (2, {"failed": len(runs_of_pack) - 2})
    rows = Store(tmp_path).runs("tiny").set_index("run_id")
    ended = {runs_of_pack[0].run_id, runs_of_pack[2].run_id}
    assert set(rows.index) == {run.run_id for run in runs_of_pack}
    assert set(rows.index[rows["state"] == "completed"]) == ended
