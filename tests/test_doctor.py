"""Each check in a state in which it has something to say, made for real: no compiler, an absent file, a full disk."""

import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray
import torch

from hpscan import doctor
from hpscan.doctor import Check
from hpscan.store import Store
from hpscan.workloads import FashionMNIST

HPSCAN = [sys.executable, "-P", "-m", "hpscan"]


def only(found) -> Check:
    (check,) = found
    return check


# Packages


class Named(importlib.metadata.Distribution):
    """An installation of hpscan with these requirements."""

    def __init__(self, *lines):
        self.lines = lines

    def read_text(self, filename):
        return (
            "\n".join(("Metadata-Version: 2.1", "Name: hpscan", "Version: 0.1.0", *self.lines))
            if filename == "METADATA"
            else None
        )

    def locate_file(self, path):
        raise NotImplementedError


@pytest.fixture
def requiring(monkeypatch):
    def make(*lines):
        monkeypatch.setattr(doctor, "requires", lambda name: Named(*lines).requires)
        monkeypatch.setattr(doctor, "metadata", lambda name: Named(*lines).metadata)
        return list(doctor.packages())

    return make


def test_packages_that_are_absent_or_too_old_fail_with_the_command_that_mends_it(requiring):
    packages, _ = requiring("Requires-Dist: numpy>=99", "Requires-Dist: no-such-package>=1", "Requires-Dist: pyyaml>=6")
    assert packages.state == "fail"
    assert "no-such-package is absent" in packages.found
    assert packages.remedy == "pip install 'numpy>=99' 'no-such-package>=1'"


def test_extras_that_are_not_complete_are_named(requiring):
    packages, extras = requiring(
        "Requires-Dist: numpy>=2",
        "Provides-Extra: s3",
        "Provides-Extra: pictures",
        "Requires-Dist: no-such-package>=1; extra == 'pictures'",
    )
    assert (packages.state, extras.state) == ("ok", "ok")
    assert extras.found == "s3; no pictures (pip install 'hpscan[pictures]')"


# The store


def test_a_store_that_can_be_used_is_left_as_it_was(tmp_path):
    assert only(doctor.store(str(tmp_path))).state == "ok"
    assert list(tmp_path.iterdir()) == []
    check = only(doctor.store(str(tmp_path / "new" / "store")))
    assert check.state == "ok"
    assert f"{tmp_path}/new/store (not there yet; in {tmp_path})" in check.found
    assert list(tmp_path.iterdir()) == []


def test_a_store_in_a_bucket_can_be_used(bucket):
    check = only(doctor.store(f"{bucket}/some/prefix"))
    assert check.state == "ok"
    assert check.found.startswith("s3://bucket/some/prefix: ")
    assert Store(f"{bucket}/some/prefix").files.names() == []


@pytest.mark.parametrize("where", ["a file", "/proc/hpscan-store", "gopher://x", "s3://no-such-bucket/x"])
def test_a_store_that_cannot_be_written_fails(tmp_path, where, bucket):
    (tmp_path / "a file").touch()
    check = only(doctor.store(str(tmp_path / where) if where == "a file" else where))
    assert check.state == "fail"
    assert where in check.found
    assert "--store" in check.remedy


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_read_only_fails(tmp_path):
    tmp_path.chmod(0o500)
    assert only(doctor.store(str(tmp_path))).state == "fail"


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MB, where we may make one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip("we may not mount")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_read_only_mount_fails(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    check = only(doctor.store(str(small_disk)))
    assert check.state == "fail"
    assert "cannot be written (Read-only" in check.found
    assert "Read-only file system" in check.found


def test_a_disk_without_room_fails(small_disk, tmp_path, monkeypatch):
    monkeypatch.setenv("HPSCAN_DATA", str(small_disk / "data"))
    by_place = {
        check.found.rpartition(", for ")[2]: check
        for check in doctor.disk(str(small_disk / "store"))
        if check.name == "disk"
    }
    check = by_place["store and data sets"]
    assert check.state == "fail"
    assert str(small_disk) in check.found
    assert "--store" in check.remedy
    assert "Ray's files" in by_place


# Data sets


def test_data_sets_that_are_absent_say_where_they_are_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("HPSCAN_DATA", str(tmp_path))
    monkeypatch.setattr(FashionMNIST, "debian", tmp_path / "none")
    digits, *others = doctor.data_sets()
    assert (digits.name, digits.state) == ("data digits", "ok")
    assert [check.name for check in others] == [
        f"data {name}" for name in ("fashion_mnist", "cifar10", "cifar100", "imagenet32")
    ]
    for check in others:
        assert check.state == "warn"
        assert check.found.startswith(f"{tmp_path}/")
        assert "get it from http" in check.remedy
        assert "HPSCAN_DATA" in check.remedy
    assert list(tmp_path.iterdir()) == []  # nothing was downloaded


def test_a_damaged_data_set_fails_and_a_whole_one_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HPSCAN_DATA", str(tmp_path))
    (tmp_path / "fashion-mnist").mkdir()
    for name in FashionMNIST.files:
        (tmp_path / "fashion-mnist" / name).write_bytes(b"not it")
    check = next(check for check in doctor.data_sets() if check.name == "data fashion_mnist")
    assert check.state == "fail"
    assert "MD5 is" in check.found
    assert check.remedy == "delete it and get it again"
    right = hashlib.md5(b"not it").hexdigest()
    monkeypatch.setattr(FashionMNIST, "files", dict.fromkeys(FashionMNIST.files, (right, right)))
    check = next(check for check in doctor.data_sets() if check.name == "data fashion_mnist")
    assert (check.state, check.found) == ("ok", f"{tmp_path}/fashion-mnist")


# The compiler


def test_without_a_compiler_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    check = only(doctor.compiler())
    assert (check.state, check.found) == ("warn", "no g++ on the path")
    assert "apt-get install g++" in check.remedy


def test_without_pythons_headers_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor.sysconfig, "get_path", lambda name: str(tmp_path))
    check = only(doctor.compiler())
    assert (check.state, check.found) == ("warn", f"no {tmp_path}/Python.h")


def test_a_compiler_that_does_not_build_is_quoted(monkeypatch, tmp_path):
    (tmp_path / "broken").write_text("#!/bin/sh\necho 'fatal error: omp.h: No such file' >&2\nexit 1\n")
    (tmp_path / "broken").chmod(0o755)
    monkeypatch.setenv("CXX", str(tmp_path / "broken"))
    check = only(doctor.compiler())
    assert check.state == "warn"
    assert "omp.h: No such file" in check.found


# GPUs, the allocator and products


def test_a_driver_that_torch_cannot_use_is_told(monkeypatch, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("torch can use it")
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    check = only(doctor.gpus())
    assert check.state == "warn"
    assert torch.__version__ in check.found


def test_another_allocator_is_told():
    jemalloc = next(Path(ray.__file__).parent.rglob("libjemalloc.so*"), None)
    if jemalloc is None:
        pytest.skip("this Ray brings none")
    code = "from hpscan.doctor import malloc; print(*malloc())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, "LD_PRELOAD": str(jemalloc)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "state='warn'" in done.stdout
    assert "jemalloc" in done.stdout


def test_products_that_are_rounded_too_much_fail():
    check = only(doctor.matmul(lambda a, b: (a.bfloat16() @ b.bfloat16()).float()))
    assert check.state == "fail"
    assert "install another build" in check.remedy


def test_slow_products_are_told():
    def twenty_times_as_slow(a, b):
        for _ in range(20):
            torch.mm(a, b)
        return torch.mm(a, b)

    check = only(doctor.matmul(twenty_times_as_slow))
    if doctor._expected_gflops()[0] is None:
        pytest.skip("this processor's clock is not known")
    assert check.state == "warn"
    assert "GFLOP/s on one core" in check.found


# Ray, and all of it


@pytest.mark.parametrize("address", ["127.0.0.1:1", "http://127.0.0.1:1"])
def test_a_cluster_that_is_not_there_fails_with_its_address(tmp_path, address):
    check = only(doctor.cluster(address, str(tmp_path)))
    assert check.state == "fail"
    assert address in check.found


def test_a_ray_that_does_not_start_fails(tmp_path):
    """Ray's files are to go where nobody can make any."""
    code = "from hpscan.doctor import own_ray; print(*own_ray())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, "RAY_TMPDIR": "/proc/nowhere"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "state='fail'" in done.stdout
    assert "Ray did not start" in done.stdout


def test_a_check_that_breaks_is_a_finding_and_the_others_go_on(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(doctor, "own_ray", lambda: [Check("Ray", "ok", "")])
    found = {check.name: check for check in doctor.checks(str(tmp_path))}
    assert found["GPUs"].state == "fail"
    assert "torch" in found["GPUs"].found
    assert found["Ray"].state == "ok"


def run(cwd, *options, **env):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HPSCAN_")}
    return subprocess.run(
        [*HPSCAN, "doctor", *options],
        cwd=cwd,
        env={**kept, **env},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_command_ends_with_0_if_nothing_fails_and_with_1_if_something_does(tmp_path):
    done = run(tmp_path, "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["ok"]) == (0, True), done.stdout + done.stderr
    names = {check["name"] for check in told["checks"]}
    assert {
        "packages",
        "extras",
        "store",
        "disk",
        "data digits",
        "compiler",
        "GPUs",
        "malloc",
        "products",
        "Ray",
    } <= names
    assert list(tmp_path.iterdir()) == []
    done = run(tmp_path, "--store", "/proc/none", "--address", "127.0.0.1:1")
    assert done.returncode == 1
    assert "fail  store: " in done.stdout
    assert "fail  cluster: --address 127.0.0.1:1: " in done.stdout
