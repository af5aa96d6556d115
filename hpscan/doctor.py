"""What this machine, its store and its cluster lack: each check is run for real and says what to do about what it found.

Nothing is imported before the check that needs it, so that what is absent is found rather than raised.
"""

from __future__ import annotations

import os
import platform
import re
import secrets
import shutil
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hpscan.errors import ClusterError, first_line

if TYPE_CHECKING:
    from packaging.requirements import Requirement
    from torch import Tensor

__all__ = [
    "Check", "checks", "cluster", "compiler", "data_sets", "disk", "gpus", "malloc", "matmul", "own_ray", "packages", "store",
]  # fmt: skip

State = Literal["ok", "warn", "fail"]
SHOWN = ("torch", "ray", "numpy", "pandas", "pyarrow", "optuna")
LEAST_BYTES, FEW_BYTES = 100_000_000, 2_000_000_000
RAY_FULL = 0.95
"""Share of a disk in use from which Ray creates no more objects."""
FLOPS_A_CYCLE = {"avx512f": 32, "fma": 32, "avx": 16}
"""float32 operations a cycle that a core has at least: not all with AVX-512 have full-width units, two FMAs of eight it is."""
WORST_ERROR = 1e-5
ANSWER_S = 120.0


@dataclass(frozen=True)
class Check:
    """What was found, and what to do about it."""

    name: str
    state: State
    """``warn``: hpscan works, slower or not with everything; ``fail``: it does not work."""
    found: str
    remedy: str = ""


def checks(location: str, address: str | None = None) -> Iterator[Check]:
    """Run every check, the quick ones first; a store and, where one is given, a cluster's address are looked at, too."""
    ways: tuple[tuple[str, Callable[[], Iterable[Check]]], ...] = (
        ("packages", packages),
        ("store", lambda: store(location)),
        ("disk", lambda: disk(location)),
        ("data sets", data_sets),
        ("compiler", compiler),
        ("GPUs", gpus),
        ("malloc", malloc),
        ("products", matmul),
        ("Ray", partial(cluster, address, location) if address else own_ray),
    )
    for name, way in ways:
        try:
            yield from way()
        except Exception as error:  # noqa: BLE001  (a check that cannot be run is a finding, and others go on)
            yield Check(name, "fail", f"cannot be checked: {first_line(error)}", "see what `packages` says")


def packages() -> Iterator[Check]:
    """The packages that hpscan requires, in versions that it works with, and which extras are complete."""
    from packaging.requirements import Requirement

    required = [Requirement(text) for text in requires("hpscan") or ()]
    base = [each for each in required if each.marker is None or each.marker.evaluate({"extra": ""})]
    told = ", ".join(f"{name} {_version(name) or 'absent'}" for name in ("hpscan", *SHOWN))
    lacking = [each for each in base if not _is_met(each)]
    found = f"Python {platform.python_version()}, {told}"
    if lacking:
        names = " ".join(f"'{each.name}{each.specifier}'" for each in lacking)
        wrong = ", ".join(f"{each.name} is {_version(each.name) or 'absent'}" for each in lacking)
        yield Check("packages", "fail", f"{wrong}; {found}", f"pip install {names}")
    else:
        yield Check("packages", "ok", found)
    extras = sorted(set(metadata("hpscan").get_all("Provides-Extra") or ()) - {"all", "dev", "docs"})
    absent = []
    for extra in extras:
        own = [each for each in required if each.marker and not each.marker.evaluate({"extra": ""})]
        asked = [each for each in own if each.marker and each.marker.evaluate({"extra": extra})]
        if not all(map(_is_met, asked)):
            absent.append(extra)
    here = ", ".join(extra for extra in extras if extra not in absent) or "none"
    lack = "".join(f"; no {extra} (pip install 'hpscan[{extra}]')" for extra in absent)
    yield Check("extras", "ok", here + lack)


def store(location: str) -> Iterator[Check]:
    """Whether files of the store can be written, read, replaced and deleted, and its folder be locked."""
    from hpscan.files import Files, StoreError

    try:
        files = Files(location)
        where = files.shown()
        if files.is_local and files.is_gone(""):
            files = Files(_existing(Path(files.location)))
            where += f" (not there yet; in {files.shown()})"
        started, name = time.perf_counter(), f".hpscan-doctor-{secrets.token_hex(4)}"
        try:
            for content in (b"first", b"second"):  # the second time it is replaced, locally by a rename
                files.write(name, content)
                if files.read(name) != content:
                    yield Check(
                        "store", "fail", f"{where}: what was written is not what is read", "give another --store"
                    )
                    return
        finally:
            with suppress(StoreError):  # what went wrong before is what to tell
                files.remove(name)
        files.remove(name)  # once more, for what it raises if it cannot
        took = (time.perf_counter() - started) / 2
        with files.locked("") as alone:
            pass
    except StoreError as error:
        told = str(error) if location in str(error) else f"{location}: {error}"
        yield Check("store", "fail", told, "give a --store that you may write to, or the right to write there")
        return
    found = f"{where}: writes, reads and replaces a file in {took * 1e3:.0f} ms"
    if files.is_local and not alone:
        yield Check(
            "store", "warn", f"{found}, but does not lock folders", "take care not to launch a sweep twice at once"
        )
    else:
        yield Check("store", "ok", found)


def disk(location: str) -> Iterator[Check]:
    """Room for results, data sets, Ray's files and Ray's shared memory."""
    from hpscan.workloads.files import data_home

    ray_folder = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    places = {"data sets": data_home(), "Ray's files": ray_folder}
    if "://" not in location:
        places = {"store": Path(location).absolute(), **places}
    by_device: dict[int, list[str]] = {}
    for what, path in places.items():
        by_device.setdefault(_existing(path).stat().st_dev, []).append(what)
    for whats in by_device.values():
        yield _room(" and ".join(whats), _existing(places[whats[0]]), for_ray="Ray's files" in whats)
    shared = Path("/dev/shm")  # noqa: S108  (where Ray has its objects)
    if shared.is_dir() and (total := shutil.disk_usage(shared).total) < LEAST_BYTES * 10:
        yield Check(
            "shared memory", "warn", f"{shared} holds {_size(total)}; Ray has its objects on disk then, slowly",
            "docker run --shm-size 2g, or mount a larger tmpfs there",
        )  # fmt: skip


def _room(what: str, path: Path, *, for_ray: bool) -> Check:
    total, used, free = shutil.disk_usage(path)
    found = f"{_size(free)} free of {_size(total)} in {path}, for {what}"
    remedy = f"make room in {path}, or use another place (--store, HPSCAN_DATA, RAY_TMPDIR)"
    if free < LEAST_BYTES:
        return Check("disk", "fail", found, remedy)
    if free < FEW_BYTES or (for_ray and used > RAY_FULL * total):
        return Check("disk", "warn", found, remedy)
    return Check("disk", "ok", found)


def data_sets() -> Iterator[Check]:
    """The data sets that workloads by these names find, and where they look; nothing is downloaded."""
    from hpscan.workloads import CIFAR10, CIFAR100, DataAbsentError, Digits, FashionMNIST, ImageNet32, WorkloadError

    Digits().load()
    yield Check("data digits", "ok", "in scikit-learn's wheel")
    for kind in (FashionMNIST, CIFAR10, CIFAR100, ImageNet32):
        workload = kind()
        try:
            folders = sorted({str(path.parent) for path in workload.files_here()})
        except DataAbsentError as error:
            path, _, rest = str(error).partition(": not there; ")
            yield Check(f"data {workload.name}", "warn", f"{path} is not there", f"{rest}, or set HPSCAN_DATA")
        except WorkloadError as error:
            yield Check(f"data {workload.name}", "fail", str(error).partition("; ")[0], str(error).partition("; ")[2])
        else:
            yield Check(f"data {workload.name}", "ok", ", ".join(folders))


def compiler() -> Iterator[Check]:
    """Whether what torch's compiler writes for a CPU can be built, by building something that needs the same of it."""
    name = os.environ.get("CXX", "g++")
    path, header = shutil.which(name), Path(sysconfig.get_path("include")) / "Python.h"
    install = "hpscan trains uncompiled, slower; Debian: apt-get install g++ python3-dev"
    if path is None:
        yield Check("compiler", "warn", f"no {name} on the path", install)
        return
    if not header.exists():
        yield Check("compiler", "warn", f"no {header}", install)
        return
    with tempfile.TemporaryDirectory(prefix="hpscan-doctor-") as folder:
        flags = ["-shared", "-fPIC", "-std=c++20", "-march=native", "-fopenmp", f"-I{header.parent}", "-x", "c++", "-"]
        source = "#include <Python.h>\n#include <omp.h>\nint threads() { return omp_get_max_threads(); }\n"
        built = subprocess.run(
            [path, *flags, "-o", f"{folder}/built.so"], input=source, capture_output=True, text=True, check=False
        )
    if built.returncode:
        said = next((line for line in built.stderr.splitlines() if "error" in line), built.stderr.strip()[:200])
        yield Check("compiler", "warn", f"{path} does not build with OpenMP and Python.h: {said}", install)
    else:
        yield Check("compiler", "ok", f"{path} builds with OpenMP and Python.h")


def gpus() -> Iterator[Check]:
    """The GPUs that torch can use."""
    import torch

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            ones = torch.ones(64, 64, device=f"cuda:{index}")
            right = bool(((ones @ ones) == 64).all())
            found = f"{torch.cuda.get_device_name(index)}, {_size(torch.cuda.mem_get_info(index)[1])}"
            if right:
                yield Check(f"GPU {index}", "ok", found)
            else:
                yield Check(
                    f"GPU {index}", "fail", f"{found}: a product came out wrong", "update its driver, or do without"
                )
    elif Path("/dev/nvidiactl").exists() or shutil.which("nvidia-smi"):
        yield Check(
            "GPUs", "warn", f"there is an NVIDIA driver, but torch {torch.__version__} sees no GPU",
            "install a torch built for CUDA (PyPI's on Linux), and see whether nvidia-smi works",
        )  # fmt: skip
    else:
        yield Check("GPUs", "ok", "none; training is on the CPU")


def malloc() -> Iterator[Check]:
    """Whether the allocator keeps freed memory, which hpscan tells glibc's to do."""
    from hpscan.hardware import prepare_worker

    loaded = ""
    with suppress(OSError):
        loaded = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    other = re.search(r"/lib(jemalloc|tcmalloc|mimalloc)[\w.-]*$", loaded, re.MULTILINE)
    if other and other[1] in os.environ.get("LD_PRELOAD", ""):
        yield Check(
            "malloc", "warn", f"LD_PRELOAD has {other[1]}, which hpscan neither tunes nor was measured with",
            "unset LD_PRELOAD, unless `hpscan launch` is faster with it",
        )  # fmt: skip
    elif not prepare_worker().malloc_tuned:
        yield Check(
            "malloc", "warn", "not glibc's: freed memory may go back to the kernel at each step", "use a glibc system"
        )
    else:
        yield Check("malloc", "ok", "glibc's, told to keep freed memory")


def matmul(product: Callable[[Tensor, Tensor], Tensor] | None = None) -> Iterator[Check]:
    """Whether float32 products are right, in the mode that workers choose, and as fast as the core could be."""
    import torch

    from hpscan.hardware import prepare_worker

    product, size = product or torch.mm, 512
    mode = prepare_worker().matmul_mode
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, size, generator=generator) for _ in range(2))
    exact = a.double() @ b.double()
    error = float((product(a, b) - exact).abs().max() / exact.abs().max())
    found = f"off by {error:.0e} at most"
    if not error < WORST_ERROR:
        yield Check("products", "fail", found, "torch computes wrongly here: install another build of it")
        return
    took = []
    for _ in range(30):
        started = time.perf_counter()
        product(a, b)
        took.append(time.perf_counter() - started)
    reached = 2 * size**3 / min(took) / 1e9
    found += f", {reached:.0f} GFLOP/s on one core (mode {mode})"
    expected, why = _expected_gflops()
    if expected and reached < expected / 2:
        yield Check(
            "products", "warn", f"{found}, where {expected:.0f} are to be had ({why})",
            "another process may have the core; else unset MKL_ and ONEDNN_ settings, or install another build of torch",
        )  # fmt: skip
    else:
        yield Check("products", "ok", found + (f"; {expected:.0f} were to be expected ({why})" if expected else ""))


def own_ray() -> Iterator[Check]:
    """Whether a Ray of our own starts here and runs a task."""
    from hpscan.cluster import answers, connected
    from hpscan.resources import Resources

    started = time.perf_counter()
    try:
        with connected(Resources(workers=1), None):
            ((_, answer),) = answers(_versions, timeout_s=ANSWER_S)
    except ClusterError as error:
        yield Check("Ray", "fail", str(error), "its logs are in /tmp/ray/session_latest/logs")
        return
    if isinstance(answer, Exception):
        yield Check(
            "Ray", "fail", f"a task did not run: {first_line(answer)}", "its logs are in /tmp/ray/session_latest/logs"
        )
    else:
        yield Check("Ray", "ok", f"starts, runs a task and ends in {time.perf_counter() - started:.0f} s")


def cluster(address: str, location: str) -> Iterator[Check]:
    """Whether a cluster can be joined, and each of its nodes has our versions and reaches the store."""
    from hpscan.cluster import answers, connected
    from hpscan.resources import Resources
    from hpscan.spec import SpecError

    try:
        with connected(Resources(), address) as slots:
            found = answers(_of_node, location, timeout_s=ANSWER_S)
    except (ClusterError, SpecError) as error:
        yield Check("cluster", "fail", str(error), "give the address of its head, and RAY_AUTH_TOKEN if it wants one")
        return
    if slots.workers:
        yield Check("cluster", "ok", f"{address}: {len(found)} nodes, {slots.workers} packs of one CPU at once")
    else:
        yield Check("cluster", "warn", f"{address}: {len(found)} nodes, none with room for a pack", "let a node join")
    for node, answer in found:
        name, ours = f"node {node}", _versions()
        if isinstance(answer, Exception):
            yield Check(
                name, "fail", f"hpscan does not run there: {first_line(answer)}", "install the same hpscan there"
            )
            continue
        theirs, (kept, *_) = answer
        differ = [f"{package} {theirs[package]}, here {own}" for package, own in ours.items() if theirs[package] != own]
        if kept.state == "fail":
            yield Check(
                name,
                "fail",
                f"the store cannot be used from there: {kept.found}",
                "give a --store that all nodes share",
            )
        elif differ:
            yield Check(name, "warn", "; ".join(differ), "install the same versions, or numbers may differ by rounding")
        else:
            yield Check(name, "ok", f"the same versions; {kept.found}")


def _of_node(location: str) -> tuple[dict[str, str], list[Check]]:
    return _versions(), list(store(location))


def _versions() -> dict[str, str]:
    return {"Python": platform.python_version(), **{name: _version(name) or "absent" for name in ("hpscan", "torch")}}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _is_met(requirement: Requirement) -> bool:
    here = _version(requirement.name)
    return here is not None and requirement.specifier.contains(here, prereleases=True)


def _existing(path: Path) -> Path:
    """The path, or the folder nearest above it that is there."""
    return next(each for each in (path, *path.parents) if each.exists())


def _expected_gflops() -> tuple[float | None, str]:
    """What a core's products come to at least when nothing is wrong, and why; None where we do not know."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return None, ""
    flags = re.search(r"^flags\s*: (.*)$", told, re.MULTILINE)
    clock = re.search(r"^cpu MHz\s*: ([\d.]+)$", told, re.MULTILINE)
    known = [each for flag, each in FLOPS_A_CYCLE.items() if flags and flag in flags[1].split()]
    if not known or clock is None:
        return None, ""
    ghz = float(clock[1]) / 1e3
    return known[0] * ghz, f"{known[0]} a cycle at {ghz:.1f} GHz"


def _size(n_bytes: float) -> str:
    if n_bytes < 1e9:
        return f"{n_bytes / 1e6:.0f} MB"
    return f"{n_bytes / 1e9:.{0 if n_bytes >= 1e10 else 1}f} GB"
