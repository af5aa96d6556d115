import stat

import pandas as pd
import pyarrow.parquet as pq
import pytest

from hpscan.parts import CURVES, METRICS, RUNS
from hpscan.store import StoreError
from tests.stored import point, row


def test_files_are_plain_parquet_with_the_documented_columns(store):
    store.save_pack("s", "p", [row("a")], [point("a", 1)])
    runs, curves = (store.root / "s" / kind / "pack-p.parquet" for kind in ("runs", "curves"))
    assert pq.read_schema(runs).names == RUNS.names
    assert pq.read_schema(curves).names == CURVES.names
    assert {"run_id", "variant", "lr", "wd", "seed", "state", *METRICS, "wall_s", "device_s", "git_commit"} <= set(
        RUNS.names
    )
    assert stat.S_IMODE(runs.stat().st_mode) == 0o644


def test_further_metrics_have_columns_of_their_own(store):
    store.save_pack("s", "p", [row("a", val_top5_error=0.25)], [])
    store.save_pack("s", "q", [row("b")], [])
    runs = store.runs("s").set_index("run_id")
    assert runs.loc["a", "val_top5_error"] == 0.25
    assert pd.isna(runs.loc["b", "val_top5_error"])


def test_a_file_of_an_earlier_version_lacks_columns_and_is_read(store):
    store.save_pack("s", "p", [row("a", val_loss=0.5)], [])
    path = store.root / "s" / "runs" / "pack-p.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["gpu", "strategy"]), path)
    runs = store.runs("s")
    assert runs.loc[0, "val_loss"] == 0.5
    assert runs["gpu"].isna().all()
    pq.write_table(pq.read_table(path).drop_columns(["state"]), path)
    with pytest.raises(StoreError, match=r"it has no column state"):
        store.runs("s")
