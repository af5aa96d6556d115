"""Prepare a worker process: threads, allocator and matmul mode, each recorded with the runs it trains."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

__all__ = ["Hardware", "can_compile", "free_memory", "prepare_worker"]

KNOWING_GCC = 12
"""A version of GCC that has the flags of all instruction sets that torch's compiler asks it for."""
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # from glibc's malloc.h


@dataclass(frozen=True)
class Hardware:
    """What a worker trains on, for provenance."""

    device: str
    device_name: str
    gpu: str | None
    """``CUDA_VISIBLE_DEVICES``: the GPU that Ray gave this worker; None without."""
    host: str
    threads: int
    matmul_mode: str
    """``torch.get_float32_matmul_precision()`` in force; ``medium`` only where it passed the accuracy test."""
    malloc_tuned: bool


@cache
def prepare_worker(precision: str = "float32", *, gpu: bool = False, threads: int = 1) -> Hardware:
    """Set this process up for training packs; the second call changes nothing.

    Parameters
    ----------
    precision
        ``tf32`` lets a GPU round the factors of float32 products to TF32.
    gpu
        Whether this process was given a GPU: its first one is used, if torch can.
    threads
        One a core that is this process's own: more threads than that on a busy machine collapse.
    """
    torch.set_num_threads(threads)
    on_gpu = gpu and torch.cuda.is_available()
    _leave_unusable_cache()
    _trust_compiler()
    _without_pool(threads=1 if on_gpu else threads + 1)
    if on_gpu:
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.benchmark = True
    return Hardware(
        device="cuda:0" if on_gpu else "cpu",
        device_name=torch.cuda.get_device_name(0) if on_gpu else _cpu_name(),
        gpu=os.environ.get("CUDA_VISIBLE_DEVICES") if gpu else None,
        host=platform.node(),
        threads=torch.get_num_threads(),
        matmul_mode=torch.get_float32_matmul_precision() if on_gpu else _choose_matmul_mode(),
        malloc_tuned=_keep_freed_memory(),
    )


def _leave_unusable_cache() -> None:
    """Let the compiler have its default cache where the one it was given cannot be used: torch would not even import it."""
    folder = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    if folder is None:
        return
    with contextlib.suppress(OSError):
        Path(folder).mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        del os.environ["TORCHINDUCTOR_CACHE_DIR"]


def _trust_compiler() -> None:
    """Let torch ask the CPU alone for its instruction sets: building and loading a library for each takes seconds a worker."""
    if "TORCHINDUCTOR_VEC_ISA_OK" in os.environ or not can_compile():
        return
    with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):  # clang has no such option
        asked = [_compiler(), "-dumpfullversion"]
        told = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=10).stdout
        if int(told.split(".")[0]) >= KNOWING_GCC:
            os.environ["TORCHINDUCTOR_VEC_ISA_OK"] = "1"


def _without_pool(threads: int) -> None:
    """Let torch run so many C++ compilers at once, and no pool of processes besides: it costs a worker more than it saves.

    One more than the worker has cores: a compiler waits for files now and then. On GPUs more than one would start the pool.
    """
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(threads))
    os.environ.setdefault("TORCH_WARM_POOL", "0")


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device; on a CPU what the system and this process's control group leave."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = [os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = [next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))]
    with contextlib.suppress(OSError, ValueError):  # no control group, or no limit: "max"
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
        free.append(max(0, limit - used))
    return min(free)


def can_compile() -> bool:
    """Whether torch's compiler has what it needs on a CPU: a C++ compiler and Python's headers."""
    return shutil.which(_compiler()) is not None and (Path(sysconfig.get_path("include")) / "Python.h").exists()


def _compiler() -> str:
    return os.environ.get("CXX", "g++")


def _keep_freed_memory() -> bool:
    """Stop glibc from giving every large block back to the kernel, which costs ten times the operation itself."""
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL("libc.so.6")
    settings = ((_M_MMAP_THRESHOLD, 32 << 20), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 256 << 20))
    return all(libc.mallopt(option, value) for option, value in settings)


def _choose_matmul_mode() -> str:
    """Route float32 products to oneDNN where it keeps float32 accuracy.

    "medium" is faster on CPUs for which MKL takes its slow path, and allowed to round to bfloat16 where the CPU has
    such units: it is kept only if products agree with float64 to 1e-5.
    """
    torch.set_float32_matmul_precision("medium")
    generator = torch.Generator().manual_seed(0)
    for shape in ((128, 64, 64), (64, 784, 256), (32, 64, 10)):
        rows, inner, columns = shape
        a = torch.randn(4, rows, inner, generator=generator)
        b = torch.randn(4, inner, columns, generator=generator)
        exact = a.double() @ b.double()
        if float((a @ b - exact).abs().max() / exact.abs().max()) >= 1e-5:
            torch.set_float32_matmul_precision("highest")
    return torch.get_float32_matmul_precision()


def _cpu_name() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
