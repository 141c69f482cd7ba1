"""What the check of a GPU says and stores, tried without one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="needs numba-cuda")
torch = pytest.importorskip("torch")

from explore_gym.scripts import gpu_check  # noqa: E402
from explore_gym.scripts.gpu_check import Args, Report, compare, inexact_functions, learn, steps_per_second  # noqa: E402

MACHINE = {"device": "Some GPU"}
# Kernels of every kind
NAMES = "MetaBandit ContextualBandit MetaGrid DeepSea Garnet FourRooms DynamicObstacles KeyRoom MazeRooms XLand XLand-Games"


def fail(message):
    raise RuntimeError(message)


def test_a_failure_is_a_row_and_ends_nothing(tmp_path):
    path = tmp_path / "docs" / "gpu.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"Another GPU": {"rows": [1]}}))
    report = Report(path, MACHINE)
    report.run("graph", "a", fail, "no memory\nand a long trace")
    report.run("throughput", "b", lambda: {"found": "7 M/s", "num_envs": 5})
    stored = json.loads(path.read_text())
    assert stored["Another GPU"] == {"rows": [1]}
    assert stored["Some GPU"]["machine"] == MACHINE
    failed, passed = stored["Some GPU"]["rows"]
    assert (failed["check"], failed["name"], failed["ok"]) == ("graph", "a", False)
    assert failed["found"] == "RuntimeError: no memory"
    assert (passed["ok"], passed["found"], passed["num_envs"]) == (True, "7 M/s", 5)
    assert list(path.parent.iterdir()) == [path]
    table = report.table()
    assert table.title == "Some GPU: 1 of 2 checks passed"
    assert list(table.columns[2].cells) == ["FAILED", "ok"]


@pytest.mark.parametrize(
    ("theirs", "inexact", "message"),
    [
        (np.array([1.0, 2.0 + 1e-12]), [], r"x\[1\] is .*2.0.* here, .* on the CPU"),
        (np.array([1.0, 2.1]), ["log"], r"x\[1\]"),
        (np.array([1, 2]), ["log"], "x is float64"),
        (np.array([1.0]), ["log"], r"x is float64 \(2,\) here, float64 \(1,\)"),
    ],
)
def test_differences_are_named(theirs, inexact, message):
    with pytest.raises(AssertionError, match=message):
        compare(torch.tensor([1.0, 2.0], dtype=torch.float64), theirs, {}, inexact, "x")


def test_floats_may_differ_where_kernels_call_inexact_functions():
    ours = torch.tensor([1.0, 4.0, float("nan")], dtype=torch.float64)
    assert compare(ours, np.array([1.0, 4.0, np.nan]), {}, [], "x") == 0.0
    assert compare(ours, np.array([1.0, 4.0 + 4e-10, np.nan]), {}, ["log"], "x") == pytest.approx(1e-10, rel=1e-3)
    with pytest.raises(AssertionError, match=r"x is .*2.* here, .*3.* on the CPU"):
        compare(torch.tensor(2), np.array(3), {}, ["log"], "x")


def test_instructions_are_compared_as_strings():
    texts = {"mission": ("left", "right")}
    assert compare({"mission": torch.tensor([1, 0])}, {"mission": ("right", "left")}, texts, [], "obs") == 0.0
    with pytest.raises(AssertionError, match="mission"):
        compare({"mission": torch.tensor([1, 1])}, {"mission": ("right", "left")}, texts, [], "obs")
    with pytest.raises(AssertionError, match="keys"):
        compare({}, {"mission": ("right", "left")}, texts, [], "obs")


def test_inexact_functions_are_found_in_kernels_that_kernels_call():
    assert inexact_functions(gym.make("Explore/MetaBandit-v0").unwrapped) == ["cos", "log", "pow"]  # but not sqrt
    assert inexact_functions(gym.make("Explore/FourRooms-v0").unwrapped) == []


def test_speed_is_counted_over_a_whole_period(monkeypatch):
    calls = []

    class Event:
        def __init__(self, enable_timing):
            pass

        def record(self):
            self.calls = len(calls)

        def synchronize(self):
            pass

        def elapsed_time(self, end):
            return 2.0 * (end.calls - self.calls)  # ms: 2 for each

    monkeypatch.setattr(torch.cuda, "Event", Event)
    speed = steps_per_second(lambda: calls.append(1), num_steps=4, num_envs=10, period=21, seconds=0.01)
    assert speed == pytest.approx(4 * 10 / 0.002)
    assert len(calls) == 6  # 24 steps, 12 ms
    steps_per_second(lambda: calls.append(1), num_steps=4, num_envs=10, period=21, seconds=0.05)
    assert len(calls) > 6 + 25


def test_unknown_ids_are_named():
    with pytest.raises(ValueError, match=r"ids must be among .*, got 'Explore/Nowhere-v0'"):
        Args(ids=("Explore/Nowhere-v0",))


def test_without_a_gpu_it_says_so(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu_check.py"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stopped:
        gpu_check.main()
    assert stopped.value.code == 2
    assert "finds no CUDA device" in capsys.readouterr().err


@pytest.mark.slow
def test_the_learner_learns():
    envs = lambda: gym.make_vec("Explore/Empty-v0", num_envs=256, autoreset_mode="SameStep")
    first, last = learn(envs, "cpu", num_iterations=60)
    assert last > 3 * first


@pytest.mark.slow
def test_equal_to_the_cpu_in_the_simulator(tmp_path):
    """The equality check itself, on kernels of every kind."""
    script, path = Path(gpu_check.__file__), tmp_path / "gpu.json"
    ids = [f"Explore/{name}-v0" for name in NAMES.split()]
    options = ["--num-envs", "2", "--num-steps", "35", "--out", str(path), "--ids", *ids]
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    result = subprocess.run([sys.executable, str(script), *options], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = json.loads(path.read_text())["simulator"]["rows"]
    assert len(rows) == 3 * len(ids)
    assert all(row["ok"] and row["difference"] == 0.0 and row["episodes"] > 0 for row in rows)
