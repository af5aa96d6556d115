import os
import subprocess
import sys

import pytest
import torch

from hpscan.hardware import can_compile, prepare_worker


def test_products_keep_float32_accuracy_in_the_mode_chosen():
    hardware = prepare_worker()
    assert hardware.matmul_mode == torch.get_float32_matmul_precision()
    generator = torch.Generator().manual_seed(7)
    for rows, inner, columns in ((128, 64, 64), (64, 256, 100), (1000, 784, 10)):
        a, b = torch.randn(rows, inner, generator=generator), torch.randn(inner, columns, generator=generator)
        exact = a.double() @ b.double()
        assert float((a @ b - exact).abs().max() / exact.abs().max()) < 1e-5


def test_one_thread_a_worker_and_a_device_with_a_name():
    hardware = prepare_worker()
    assert hardware.threads == torch.get_num_threads() == 1
    assert hardware.device_name
    assert prepare_worker() is hardware


def test_without_a_compiler_on_the_path_nothing_is_compiled(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert not can_compile()


def test_a_compilers_cache_that_cannot_be_used_is_left(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    for folder, left in ((tmp_path / "new" / "below", False), (tmp_path / "file" / "below", True)):
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder))
        prepare_worker.__wrapped__()  # once a process
        assert ("TORCHINDUCTOR_CACHE_DIR" not in os.environ) is left


@pytest.mark.parametrize(
    ("told", "trusted"), [("12.2.0", True), ("15", True), ("9.4.0", False), ("clang: error: unknown argument", False)]
)
def test_a_compiler_that_knows_every_instruction_set_is_not_asked_for_each(monkeypatch, tmp_path, told, trusted):
    compiler = tmp_path / "c++"
    compiler.write_text(f"#!/bin/sh\necho '{told}'\n", encoding="utf-8")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("TORCHINDUCTOR_VEC_ISA_OK", "")  # so that it is put back
    monkeypatch.delenv("TORCHINDUCTOR_VEC_ISA_OK")
    prepare_worker.__wrapped__()
    assert (os.environ.get("TORCHINDUCTOR_VEC_ISA_OK") == "1") is trusted


@pytest.mark.parametrize(("given", "compilers"), [({}, "3"), ({"TORCHINDUCTOR_COMPILE_THREADS": "7"}, "7")])
def test_a_worker_runs_a_c_compiler_more_than_it_has_threads_unless_it_is_told_another_number(given, compilers):
    script = (
        "import torch._inductor.config as c\n"
        "from torch._inductor.async_compile import AsyncCompile\n"
        "import torch._inductor.compile_fx\n"
        "print(c.compile_threads, AsyncCompile.process_pool.cache_info().currsize)"
    )
    program = f"from hpscan.hardware import prepare_worker; prepare_worker(threads=2); exec({script!r})"
    names = ("TORCHINDUCTOR_COMPILE_THREADS", "TORCH_WARM_POOL")
    environment = {name: value for name, value in os.environ.items() if name not in names} | given
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == [compilers, "0"]  # and no pool of processes
