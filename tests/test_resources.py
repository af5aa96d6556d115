"""Where and how packs run, as a spec says it."""

import subprocess
import sys

import pytest

from hpscan.resources import PerPack, Resources
from hpscan.spec import SpecError


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "1 CPU"),
        ({"cpus": 2, "gpus": 0.5}, "2 CPU, 0.5 GPU"),
        ({"gpus": 0, "memory_gb": 1.5}, "1 CPU, 1.5 GiB of memory"),
        ({"cpus": 0.25, "gpus": 1, "memory_gb": 8, "custom": {"fast": 2}}, "0.25 CPU, 1 GPU, 8 GiB of memory, 2 fast"),
    ],
)
def test_what_a_pack_takes_is_told_without_what_it_does_not(given, told):
    assert PerPack(**given).told() == told


@pytest.mark.parametrize(
    ("given", "most"),
    [({}, 32), ({"gpus": 0}, 32), ({"gpus": 2}, 256), ({"pack_size": 7, "gpus": 2}, 7), ({"pack_size": 1}, 1)],
)
def test_a_pack_holds_more_on_gpus_unless_told_how_many(given, most):
    assert Resources(**given).most_runs == most


def test_a_worker_for_each_core_that_the_process_may_use():
    script = (
        "import os\n"
        "from hpscan.resources import Resources\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "print(Resources().workers_here, Resources(workers=5).workers_here)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "5"]


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"workers": 0}, "`resources.workers`: input must be greater than or equal to 1; got 0"),
        ({"pack_size": 0}, "`resources.pack_size`: input must be greater than or equal to 1; got 0"),
        ({"gpus": -1}, "`resources.gpus`: input must be greater than or equal to 0; got -1"),
        ({"checkpoint_s": 0}, "`resources.checkpoint_s`: input must be greater than 0; got 0"),
        ({"strategy": "both"}, "`resources.strategy`: "),
        ({"per_pack": {"cpus": 0}}, "`resources.per_pack.cpus`: input must be greater than 0; got 0"),
        ({"per_pack": {"gpus": 2}}, "`resources.per_pack.gpus`: input must be less than or equal to 1; got 2"),
        ({"per_pack": {"custom": {"tpu": 0}}}, "`resources.per_pack.custom.tpu`: input must be greater than 0; got 0"),
        ({"per_pack": {"ram": 1}}, "unknown key 'ram'; known are cpus, gpus, memory_gb, custom"),
        ({"threads": 4}, "`resources`: unknown key 'threads'; known are workers, gpus"),
    ],
    ids=str,
)
def test_what_cannot_be_reserved_is_refused_in_one_line(make_spec, resources, message):
    with pytest.raises(SpecError) as error:
        make_spec(resources=resources)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
