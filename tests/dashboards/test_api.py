"""What the API answers of a store whose content is known."""

import io
import json
import threading

import pandas as pd
import pyarrow as pa
import pytest
import yaml

from hpscan.dashboards import downloads, reading
from hpscan.dashboards.downloads import REPORT_FILES
from hpscan.grid import runs
from hpscan.lease import held
from hpscan.spec import Spec
from hpscan.spec_text import shipped_specs
from hpscan.store import Store
from tests.processes import wait_for

from .conftest import ENDED, is_problem

V1 = "/api/v1"


def got(client, path, **params):
    answer = client.get(f"{V1}/{path}", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_sweeps_are_listed_with_their_progress_and_best_cell(client):
    page = got(client, "sweeps")
    assert (page["total"], page["offset"], page["limit"]) == (1, 0, 100)
    (tiny,) = page["items"]
    assert tiny["name"] == "tiny"
    assert tiny["states"] == {"completed": 55, "diverged": 4, "stopped": 0, "failed": 1, "missing": 12}
    assert tiny["progress"] == pytest.approx(60 / 72)
    assert (tiny["best"]["lr"], tiny["best"]["wd"], tiny["best"]["mean"]) == (2**-4, 2**-6, pytest.approx(1.0))
    assert tiny["best"]["panel"] == "adamw"
    assert tiny["updated"] == ENDED.isoformat().replace("+00:00", "Z")
    assert tiny["problem"] is None


def test_lists_are_paged(client, store, make_spec):
    for name in "abc":
        store.save_spec(make_spec(name=name))
    page = got(client, "sweeps", offset=1, limit=2)
    assert page["total"] == 4
    assert [each["name"] for each in page["items"]] == ["b", "c"]
    assert got(client, "sweeps", offset=10**9)["items"] == []


def test_a_broken_sweep_hides_none_of_the_others(client, store):
    (store.root / "broken").mkdir()
    (store.root / "broken" / "spec.yaml").write_text("name: [")
    broken, tiny = got(client, "sweeps")["items"]
    assert "not YAML" in broken["problem"]
    assert tiny["problem"] is None
    is_problem(client.get(f"{V1}/sweeps/broken"), 503)


def test_the_status_says_all_that_pages_need(client):
    found = got(client, "sweeps/tiny")
    assert [panel["variant"] for panel in found["panels"]] == ["sgd", "sgdw", "adamw"]
    assert found["metric"] == found["metrics"][0] == "val_loss"
    assert found["steps"] == [6, 12]
    assert found["errors"] == {"RuntimeError: <b>boom</b>": 1}
    assert found["broken"] == []


def test_a_pack_that_lands_is_seen(client, store, make_spec):
    before = got(client, "sweeps/tiny")
    store.save_spec(make_spec(seeds=[0]))
    wait_for(lambda: got(client, "sweeps/tiny")["version"] != before["version"], what="another version")
    after = got(client, "sweeps/tiny")
    assert (before["runs"], after["runs"]) == (72, 36)


def test_the_spec_is_had_as_yaml_and_json(client, store):
    text = client.get(f"{V1}/sweeps/tiny/spec")
    assert text.headers["content-type"] == "application/yaml"
    assert yaml.safe_load(text.text) == got(client, "sweeps/tiny/spec", format="json")
    assert text.text == store.spec("tiny").to_yaml()


def test_a_landscape_is_arrays_in_which_what_diverged_is_null(client):
    found = got(client, "sweeps/tiny/landscapes/sgd")
    assert (found["axes"], found["seeds"], found["step"]) == (["lr", "wd"], [0, 1], None)
    assert found["first"] == [2**-6, 2**-4, 2**-2]
    assert [len(found["values"]), len(found["values"][0]), len(found["values"][0][0])] == [2, 3, 4]
    assert found["states"][0][2][3] == "diverged"
    assert found["values"][0][2][3] is None
    assert found["mean"][2][3] is None
    assert found["mean"][1][1] == pytest.approx(1.005)
    assert found["best"]["lr"] == 2**-4


def test_a_landscape_is_had_at_an_evaluation_in_a_metric_and_in_other_units(client):
    early = got(client, "sweeps/tiny/landscapes/sgdw", step=6, metric="val_error")
    assert (early["step"], early["metric"], early["values"][0][0][0]) == (6, "val_error", 0.5)
    other = got(client, "sweeps/tiny/landscapes/sgdw", units="torch")
    assert other["variant"] == "sgdw-torch"
    assert len(other["second"]) > 4


def test_a_landscape_is_had_as_a_table_with_a_row_a_run(client):
    def table(kind):
        return client.get(f"{V1}/sweeps/tiny/landscapes/adamw", params={"format": kind})

    read = {
        "csv": lambda content: pd.read_csv(io.BytesIO(content)),
        "parquet": lambda content: pd.read_parquet(io.BytesIO(content)),
        "arrow": lambda content: pa.ipc.open_file(pa.BufferReader(content)).read_pandas(),
    }
    for kind, opened in read.items():
        answer = table(kind)
        frame = opened(answer.content)
        assert len(frame) == 24
        assert {"lr", "wd", "seed", "state", "run_id", "val_loss"} <= set(frame)
        assert frame["state"].value_counts().to_dict() == {"completed": 12, "missing": 12}
        assert f'filename="tiny adamw.{kind}"' in answer.headers["content-disposition"]
    assert table("arrow").headers["content-type"] == "application/vnd.apache.arrow.file"
    assert table("parquet").headers["content-type"] == "application/vnd.apache.parquet"


@pytest.mark.parametrize(
    ("query", "says"),
    [("metric=nonsense", "not recorded"), ("metric=config", "not recorded"), ("step=7", "must be one of 6, 12"),
     ("units=imperial", "units"), ("format=xml", "format"), ("step=-1", "step"), ("step=x", "step"),
     ("step=99999999999999999999999", "step")],
)  # fmt: skip
def test_a_parameter_that_makes_no_sense_is_told_in_one_line(client, query, says):
    detail = is_problem(client.get(f"{V1}/sweeps/tiny/landscapes/sgd?{query}"), 422)
    assert says in detail
    assert "\n" not in detail


@pytest.mark.parametrize(
    "path",
    ["sweeps/none", "sweeps/none/spec", "sweeps/none/landscapes/sgd", "sweeps/tiny/landscapes/none", "sweeps/none/runs",
     "sweeps/tiny/runs/none", "sweeps/tiny/runs?panel=none", "sweeps/none/curves?run_id=x", "sweeps/none/analysis",
     "sweeps/none/report/report.html", "sweeps/tiny/report/none.html", "sweeps/tiny/report/scaling.svg", "sweeps/tiny/log",
     "specs/none", "none", "", "sweeps/tiny/none"],
)  # fmt: skip
def test_what_there_is_not_is_a_problem_and_never_a_page(client, path):
    is_problem(client.get(f"{V1}/{path}"), 404)


@pytest.mark.parametrize(
    "path",
    ["sweeps/..%2f..%2fetc", "sweeps/%2e%2e", "sweeps/%2e%2e/spec", "sweeps/tiny/report/..%2fspec.yaml", "specs/%2e%2e",
     "sweeps/tiny/report/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "sweeps/tiny%00", "sweeps/tiny/report/spec.yaml",
     "sweeps/tiny/landscapes/..%2f..%2fspec", "sweeps/-x", "sweeps/%ff", "sweeps/" + "x" * 200],
)  # fmt: skip
def test_no_path_leads_out_of_what_is_served(client, store, path):
    (store.root / "spec.yaml").write_text("name: outside")
    assert client.get(f"{V1}/{path}").status_code in {404, 422}


def test_a_method_that_a_path_does_not_have_is_told(client):
    answer = client.post(f"{V1}/sweeps")
    is_problem(answer, 405)
    assert answer.headers["allow"] == "GET"
    assert client.get(f"{V1}/launch").headers["allow"] == "POST"


def test_runs_are_paged_and_chosen_by_panel_and_state(client):
    every = got(client, "sweeps/tiny/runs", limit=1000)
    assert (every["total"], len(every["items"])) == (72, 72)
    page = got(client, "sweeps/tiny/runs", offset=70, limit=10)
    assert page["items"] == every["items"][70:]
    missing = got(client, "sweeps/tiny/runs", panel="adamw", state="missing")
    assert missing["total"] == 12
    assert missing["items"][0]["metrics"] == {}
    diverged = got(client, "sweeps/tiny/runs", state="diverged")["items"]
    assert {run["panel"] for run in diverged} == {"sgd"}
    assert diverged[0]["metrics"]["val_loss"] is None
    assert diverged[0]["steps_done"] == 6
    (failed,) = got(client, "sweeps/tiny/runs", state="failed")["items"]
    assert failed["error"] == "RuntimeError: <b>boom</b>"


def test_a_run_is_had_with_its_config(client):
    run_id = got(client, "sweeps/tiny/runs", limit=1)["items"][0]["run_id"]
    found = got(client, f"sweeps/tiny/runs/{run_id}")
    assert found["config"] == {"lr": 1}
    assert found["row"]["wall_s"] == found["wall_s"] == 1.5
    missing = got(client, "sweeps/tiny/runs", state="missing", limit=1)["items"][0]["run_id"]
    assert got(client, f"sweeps/tiny/runs/{missing}")["config"] is None


def test_curves_are_had_of_the_runs_that_are_asked_for(client):
    ids = [run["run_id"] for run in got(client, "sweeps/tiny/runs", state="diverged")["items"]]
    asked = [*reversed(ids), "unknown"]
    found = client.get(f"{V1}/sweeps/tiny/curves", params={"run_id": asked}).json()["curves"]
    assert [curve["run_id"] for curve in found] == asked[:-1]
    assert found[0]["step"] == [6, 12]
    assert found[0]["values"]["val_loss"] == [2.0, None]
    is_problem(client.get(f"{V1}/sweeps/tiny/curves"), 422)
    is_problem(client.get(f"{V1}/sweeps/tiny/curves", params={"run_id": ["x"] * 201}), 422)


def test_the_analysis_is_what_the_command_line_prints(client, store):
    from hpscan.analysis import analyze

    assert got(client, "sweeps/tiny/analysis") == json.loads(json.dumps(analyze(store, "tiny").to_json()))
    assert got(client, "sweeps/tiny/analysis", metric="test_error")["metric"] == "test_error"


@pytest.mark.parametrize("name", [*(name for name in REPORT_FILES if name.startswith(("report", "best", "landsc")))])
def test_every_file_of_the_report_is_had_and_made_once(client, name, monkeypatch):
    answer = client.get(f"{V1}/sweeps/tiny/report/{name}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == REPORT_FILES[name]
    assert answer.headers["content-security-policy"].startswith("sandbox;")
    starts = {"html": b"<!doctype html", "pdf": b"%PDF", "png": b"\x89PNG", "svg": b"<?xml"}
    kind = name.rpartition(".")[2]
    assert answer.content.lower().startswith(starts[kind].lower() if kind in starts else b"")
    assert answer.content
    for makes in ("save_report", "save_figure"):
        monkeypatch.setattr(downloads, makes, None)
    saved = client.get(f"{V1}/sweeps/tiny/report/{name}", params={"download": True})
    assert saved.content == answer.content
    how = [each.headers["content-disposition"] for each in (answer, saved)]
    assert how == [f'inline; filename="tiny {name}"', f'attachment; filename="tiny {name}"']


def test_what_is_served_is_what_the_report_command_writes(client, store, tmp_path):
    from hpscan.analysis import analyze
    from hpscan.report import save_report

    for path in save_report(analyze(store, "tiny"), tmp_path / "report", ["csv", "yaml", "json"]):
        assert client.get(f"{V1}/sweeps/tiny/report/{path.name}").content == path.read_bytes()


@pytest.mark.parametrize(("path", "slow"), [("analysis", (reading, "analyze")), ("report/report.md", (downloads, "save_report"))])  # fmt: skip
def test_what_takes_long_is_to_be_asked_for_again(client, monkeypatch, path, slow):
    may_end, make = threading.Event(), getattr(*slow)
    monkeypatch.setattr(*slow, lambda *given, **more: may_end.wait(60) and make(*given, **more))
    monkeypatch.setattr(reading, "WAIT_S", 2.0)
    answer = client.get(f"{V1}/sweeps/tiny/{path}")
    assert (answer.status_code, answer.headers["retry-after"]) == (202, "5")
    assert "tiny: " in answer.json()["detail"]
    page = client.get(f"{V1}/sweeps/tiny/{path}", headers={"accept": "text/html,application/xml;q=0.9,*/*;q=0.8"})
    assert (page.status_code, page.headers["retry-after"]) == (202, "5")
    assert page.headers["content-type"].startswith("text/html")
    assert '<meta http-equiv="refresh" content="5">' in page.text
    may_end.set()
    wait_for(lambda: client.get(f"{V1}/sweeps/tiny/{path}").status_code == 200, what=path)


def test_of_a_sweep_that_runs_the_last_is_answered_and_of_what_has_ended_the_newest(client, store, monkeypatch, make_spec):  # fmt: skip
    monkeypatch.setattr(reading, "LOOK_S", 0.0)
    url = f"{V1}/sweeps/tiny/report/best_config.yaml"
    before = client.get(url)
    monkeypatch.setattr(reading, "WAIT_S", 2.0)
    may_end, make = threading.Event(), reading.analyze
    monkeypatch.setattr(reading, "analyze", lambda *given, **more: may_end.wait(60) and make(*given, **more))
    store.save_spec(make_spec(notes="Anew."))
    assert client.get(url).status_code == 202
    with held(store, "tiny"):
        old = client.get(url)
        assert (old.status_code, old.headers["last-modified"]) == (200, before.headers["last-modified"])
    may_end.set()
    wait_for(lambda: client.get(url).status_code == 200, what="the newest")


def test_shipped_specs_are_had(client):
    listed = got(client, "specs")
    assert [each["name"] for each in listed] == list(shipped_specs())
    assert next(each for each in listed if each["name"] == "quickstart")["runs"] == len(runs(Spec.load("quickstart")))
    assert client.get(f"{V1}/specs/quickstart").text == shipped_specs()["quickstart"]


def test_a_spec_is_validated(client, tiny_raw):
    def told(text, **more):
        answer = client.post(f"{V1}/validate", json={"text": text, **more})
        assert answer.status_code == 200, answer.text
        return answer.json()

    good = told(yaml.safe_dump({**tiny_raw, "name": "other"}))
    assert (good["valid"], good["sweep"], good["runs"], good["to_train"]) == (True, "other", 72, 72)
    assert "a run-step" in good["cost"]
    assert good["may_launch"] is False
    here = told(yaml.safe_dump(tiny_raw), cost=False)
    assert (here["runs"], here["to_train"], here["cost"]) == (72, 12, None)
    bad = told(yaml.safe_dump({**tiny_raw, "batch_size": 0}))
    assert (bad["valid"], bad["runs"]) == (False, None)
    assert "batch_size" in bad["error"]
    assert "os:getcwd" in told(yaml.safe_dump({**tiny_raw, "workload": {"trainable": "os:getcwd"}}))["error"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"text": 1}', b'{"text": "\\ud800"}', b"\xff", b"[" * 100_000, b'{"text": NaN}', b"{}"]
)
def test_a_body_that_makes_no_sense_is_a_problem(client, body):
    for path in ("validate", "launch"):
        answer = client.post(f"{V1}/{path}", content=body, headers={"content-type": "application/json"})
        if b"ud800" in body:
            assert answer.status_code < 500
        else:
            assert answer.status_code in {400, 422}
            is_problem(answer, answer.status_code)


def test_nothing_is_launched_unless_that_is_allowed(client, tiny_raw):
    body = {"text": yaml.safe_dump(tiny_raw)}
    assert "--allow-launch" in is_problem(client.post(f"{V1}/launch", json=body), 403)
    assert "--allow-launch" in is_problem(client.post(f"{V1}/sweeps/tiny/cancel"), 403)
    assert got(client, "launches") == []


def test_what_cannot_be_launched_is_told(serve, tiny_raw):
    client = serve(allowed=True)
    code = {"text": yaml.safe_dump({**tiny_raw, "workload": {"trainable": "os:getcwd"}})}
    assert "os:getcwd" in is_problem(client.post(f"{V1}/launch", json=code), 403)
    assert "batch_size" in is_problem(client.post(f"{V1}/launch", json={"text": yaml.safe_dump({**tiny_raw, "batch_size": 0})}), 422)  # fmt: skip
    is_problem(client.post(f"{V1}/sweeps/tiny/cancel"), 409)


def ended(client, sweep):
    """The log of a launch, once it has ended."""
    wait_for(lambda: got(client, f"sweeps/{sweep}/log")["status"] != "running", what=f"the end of {sweep}")
    return got(client, f"sweeps/{sweep}/log")


def test_a_sweep_is_launched_to_its_end(serve, tmp_path, tiny_raw):
    store = Store(tmp_path / "empty")
    client = serve(of=store, allowed=True)
    body = {"text": yaml.safe_dump({**tiny_raw, "resources": {"compile": False, "strategy": "fused"}})}
    answer = client.post(f"{V1}/launch", json=body)
    assert (answer.status_code, answer.json()["status"]) == (202, "running")
    assert answer.headers["location"] == f"{V1}/sweeps/tiny"
    is_problem(client.post(f"{V1}/launch", json=body), 409)
    assert [each["sweep"] for each in got(client, "launches")] == ["tiny"]
    log = ended(client, "tiny")
    assert (log["status"], log["exit_code"]) == ("succeeded", 0), log["text"]
    assert got(client, "sweeps/tiny")["states"]["completed"] == 72
    is_problem(client.post(f"{V1}/sweeps/tiny/cancel"), 409)


def test_a_launch_is_cancelled(serve, tmp_path, tiny_raw):
    client = serve(of=Store(tmp_path / "empty"), allowed=True)
    long = {**tiny_raw, "budget": {"steps": 400_000}, "resources": {"compile": False, "strategy": "fused"}}
    assert client.post(f"{V1}/launch", json={"text": yaml.safe_dump(long)}).status_code == 202
    wait_for(lambda: "at once" in got(client, "sweeps/tiny/log")["text"], what="the first training")
    assert client.post(f"{V1}/sweeps/tiny/cancel").status_code == 202
    log = ended(client, "tiny")
    assert log["status"] == "cancelled"
    assert "what is trained is stored" in log["text"]


def test_a_store_that_cannot_be_read_is_told(serve, tmp_path):
    (tmp_path / "file").write_text("no folder")
    client = serve(of=Store(tmp_path / "file"))
    is_problem(client.get(f"{V1}/sweeps"), 503)
    assert "hpscan_store_readable 0.0" in client.get("/metrics").text
    assert client.get("/healthz").status_code == 200


def test_a_broken_file_is_told_and_left_out(serve, store):
    (store.root / "tiny" / "runs" / "pack-x.parquet").write_bytes(b"no parquet")
    (line,) = got(serve(of=Store(store.root, on_broken=print)), "sweeps/tiny")["broken"]
    assert "pack-x.parquet" in line


def test_the_document_says_every_problem_as_one(client):
    document = client.get("/api/openapi.json").json()
    assert document["servers"][0]["url"] == "/api"
    for methods in document["paths"].values():
        for operation in methods.values():
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    assert set(answer["content"]) == {"application/problem+json"}
            assert {"401", "403", "429", "504"} <= set(operation["responses"])
