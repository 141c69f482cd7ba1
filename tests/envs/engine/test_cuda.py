"""Environments on a GPU as far as none is needed: kernels compile, and in numba's simulator they do the same as on the CPU."""

import os
import pathlib
import re
import subprocess
import sys

import gymnasium as gym
import pytest

from explore_gym.envs import KERNEL_NAMES, NAMESPACE

pytest.importorskip("numba_cuda", reason="needs numba-cuda")
pytest.importorskip("tyro", reason="needs the extra agents, as scripts/gpu_check.py does")
torch = pytest.importorskip("torch")

from explore_gym.envs.engine import cuda, device, vector  # noqa: E402
from explore_gym.scripts.gpu_check import inexact_functions  # noqa: E402

AutoresetMode = gym.vector.AutoresetMode


def kernels(env, mode=AutoresetMode.NEXT_STEP, layout="records"):
    return cuda.Memory(env, 1, mode, torch.device("cpu"), layout).kernels()


@pytest.mark.parametrize("name", KERNEL_NAMES)
def test_kernels_compile_for_gpus(name):
    """To PTX, and by NVIDIA's linker to machine code: they allocate nothing and use no Python objects."""
    env = gym.make(f"{NAMESPACE}/{name}").unwrapped
    made = kernels(env)
    for capability, target in (((8, 0), "sm_80"), ((9, 0), "sm_90")):
        ptx = made.ptx("step_lanes", capability)  # in NEXT_STEP mode it resets and observes, too
        assert f".target {target}" in ptx
        assert ".entry step_lanes(" in ptx
        assert "malloc" not in ptx
        assert not re.search(r"\b(add|sub|mul)\.f", ptx)  # without .rn NVIDIA's linker would fuse them
        if not inexact_functions(env):  # those are made of fused operations
            assert "fma.rn" not in ptx
        assert len(device.link(ptx, capability)) > 1000


@pytest.mark.parametrize("layout", device.LAYOUTS)
@pytest.mark.parametrize("mode", AutoresetMode)
def test_every_mode_and_layout_compiles(toy, mode, layout):
    made = kernels(toy.Chain(), mode, layout)
    for name in ("reset_lanes", "step_lanes", "reset_done_lanes"):
        ptx = made.ptx(name, (9, 0))
        passed = sum(len(buffer.argument()) for buffer in made.arguments[name])
        assert ptx.partition(f".entry {name}(")[2].partition("{")[0].count(".param") == passed


def test_products_and_sums_are_rounded_one_by_one(toy):
    """With slip the chain computes low + (high - low) * u, which NVIDIA's compiler fuses unless told not to."""
    ptx = kernels(toy.Chain()).ptx("step_lanes", (9, 0))
    assert "mul.rn.f64" in ptx and "add.rn.f64" in ptx
    assert "fma" not in ptx


def test_machine_code_is_compiled_once(toy, monkeypatch, tmp_path):
    env = toy.Chain(length=4)
    monkeypatch.setattr(env.loops, "cache_path", lambda: (pathlib.Path("toy.py"), tmp_path / "cache"))
    first = cuda.compile_ahead(env, "SameStep", (8, 0))
    assert sorted(first) == ["reset_done_lanes", "reset_lanes", "step_lanes"]
    monkeypatch.setattr(device, "link", lambda *args: pytest.fail("compiled again"))
    assert cuda.compile_ahead(env, "SameStep", (8, 0)) == first
    with pytest.raises(pytest.fail.Exception, match="compiled again"):
        cuda.compile_ahead(env, "SameStep", (9, 0))


def test_the_cache_keeps_the_newest(tmp_path, monkeypatch):
    monkeypatch.setattr(device, "CACHED_VARIANTS", 2)
    paths = [tmp_path / f"toy.step_lanes_Chain_{i:016x}.cubin" for i in range(4)]
    other = tmp_path / f"toy.step_lanes_Chains_{0:016x}.cubin"
    for seconds, path in enumerate((other, *paths)):
        device.keep(path, b"code")
        os.utime(path, (seconds, seconds))
    assert sorted(tmp_path.iterdir()) == sorted([other, paths[2], paths[3]])


@pytest.mark.parametrize("wanted", ["gpu", "meta", "cuda:x", 0.5])
def test_unknown_devices_are_named(toy, wanted):
    with pytest.raises(ValueError, match=f"device must be 'cpu', 'cuda', .* got {wanted!r}"):
        toy.ChainVector(2, device=wanted)


def test_a_build_of_torch_without_cuda_is_named(toy, monkeypatch):
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    with pytest.raises(RuntimeError, match=r"device 'cuda' needs a build of torch with CUDA, this is torch [0-9]"):
        toy.ChainVector(2, device="cuda")


@pytest.mark.parametrize(("count", "why"), [(0, "look with nvidia-smi for a GPU and its driver"), (2, "numbers begin at 0")])
def test_a_device_that_is_not_there_is_named(toy, monkeypatch, count, why):
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(RuntimeError, match=rf"device 'cuda:2' isn't there: torch .* finds {count} CUDA devices \({why}\)"):
        toy.ChainVector(2, device="cuda:2")


def test_threads_are_for_the_cpu(toy):
    with pytest.raises(ValueError, match="num_threads is for the CPU: on device 'cuda' it must be 1, got 2"):
        toy.ChainVector(2, device="cuda", num_threads=2)


def test_missing_packages_are_named(toy, monkeypatch):
    monkeypatch.setattr(vector.importlib.util, "find_spec", lambda name: None if name == "numba_cuda" else name)
    with pytest.raises(ImportError, match=r"device 'cuda' needs numba_cuda: pip install 'explore-gym\[cuda\]'"):
        toy.ChainVector(2, device="cuda")


def test_the_cpu_needs_no_torch():
    make = "gymnasium.make_vec('Explore/RiverSwim-v0', num_envs=2)"
    code = f"import sys, gymnasium, explore_gym; {make}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.slow
def test_in_the_simulator():
    """test_simulated_cuda.py in a process whose numba simulates a GPU."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib"]
    path = pathlib.Path(__file__).with_name("test_simulated_cuda.py")
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    result = subprocess.run([*command, str(path)], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "skipped" not in result.stdout
