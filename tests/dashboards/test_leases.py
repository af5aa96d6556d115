"""What a lease tells who watches it: of a launch elsewhere nothing but that it goes on renewing it."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from hpscan.dashboards.leases import SKEW_S, Leases
from hpscan.lease import EXPIRES_S, held

HOLDER = """
import sys
from hpscan.lease import held
from hpscan.store import Store
with held(Store(sys.argv[1]), "tiny"):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def leases(store, clock):
    return Leases(store.files, clock)


@pytest.fixture
def elsewhere(store):
    """Write the lease of a launch on another host, as renewed some seconds ago."""
    with held(store, "tiny"):
        lease = json.loads(store.files.read("tiny/lease.json"))

    def write(ago_s):
        renewed = (datetime.now(UTC) - timedelta(seconds=ago_s)).isoformat()
        store.files.write("tiny/lease.json", json.dumps({**lease, "host": "node-7", "renewed": renewed}).encode())

    return write


def test_a_launch_that_ends_has_ended_at_once(leases, store):
    assert not leases.held("tiny")
    with held(store, "tiny"):
        assert leases.held("tiny")
    assert not leases.held("tiny")


def test_a_launch_of_this_machine_that_was_killed_has_ended_at_once(leases, store):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, store.location], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        assert leases.held("tiny")
        holder.kill()
    assert store.files.read("tiny/lease.json") is not None
    assert not leases.held("tiny")


@pytest.mark.parametrize("behind_s", [-600, 0, 600])
def test_a_launch_elsewhere_lives_while_it_renews_whatever_its_clock_says(leases, elsewhere, clock, behind_s):
    for tick in range(10):
        elsewhere(behind_s + tick)
        clock.now += EXPIRES_S / 2
        assert leases.held("tiny")
    clock.now += EXPIRES_S
    assert not leases.held("tiny")
    elsewhere(behind_s + 99)
    assert leases.held("tiny")


def test_what_was_left_behind_long_ago_is_no_launch(leases, elsewhere):
    elsewhere(SKEW_S + 1)
    assert not leases.held("tiny")


def test_what_is_no_lease_is_no_launch(leases, store):
    store.files.write("tiny/lease.json", b"{}")
    assert not leases.held("tiny")
