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
from explore_gym.scripts.gpu_check import Args, Report, compare, inexact_functions, steps_per_second  # noqa: E402

MACHINE = {"device": "Some GPU"}
# Kernels of every kind
NAMES = "MetaBandit ContextualBandit MetaGrid DeepSea Garnet FourRooms DynamicObstacles KeyRoom MazeRooms XLand XLand-Games"


def fail(message):
    raise RuntimeError(message)


def test_a_failure_is_a_row_and_ends_nothing(tmp_path, capsys):
    path = tmp_path / "docs" / "gpu.json"
    report = Report(path, MACHINE)
    report.run("graph", "a", fail, "no memory\nand a long trace")
    report.run("throughput", "b", lambda: {"found": "7 M/s", "num_envs": 5})
    stored = json.loads(path.read_text())["Some GPU"]
    assert stored["machine"] == MACHINE
    failed, passed = stored["rows"]
    assert (failed["check"], failed["name"], failed["ok"]) == ("graph", "a", False)
    assert failed["found"] == "RuntimeError: no memory"
    assert (passed["ok"], passed["found"], passed["num_envs"]) == (True, "7 M/s", 5)
    assert list(path.parent.iterdir()) == [path]
    table = report.table()
    assert table.title == "Some GPU: 1 of 2 checks passed"
    assert list(table.columns[2].cells) == ["FAILED", "ok"]
    assert capsys.readouterr().err == "graph a: FAILED, RuntimeError: no memory\nthroughput b: 7 M/s\n"


def test_stored_rows_stay_until_they_are_made_again(tmp_path):
    path = tmp_path / "gpu.json"
    path.write_text(json.dumps({"Another GPU": {"rows": [1]}}))
    found = lambda: {(row["check"], row["name"]): row["found"] for row in json.loads(path.read_text())["Some GPU"]["rows"]}
    for figure, names in (("1 M/s", "ab"), ("2 M/s", "bc")):
        report = Report(path, MACHINE)
        for name in names:
            report.run("throughput", name, lambda figure=figure: {"found": figure})
    assert found() == {("throughput", "a"): "1 M/s", ("throughput", "b"): "2 M/s", ("throughput", "c"): "2 M/s"}
    assert [row["name"] for row in report.rows] == ["b", "c"]
    Report(path, {**MACHINE, "versions": {"torch": "3.0"}}).run("throughput", "d", lambda: {"found": "3 M/s"})
    assert found() == {("throughput", "d"): "3 M/s"}  # not beside figures of other versions
    assert json.loads(path.read_text())["Another GPU"] == {"rows": [1]}


def test_an_interrupted_check_keeps_what_is_done(tmp_path, capsys, monkeypatch):
    def make_checks(args, report):
        report.run("graph", "a", lambda: {"found": "equal"})
        raise KeyboardInterrupt

    path = tmp_path / "gpu.json"
    monkeypatch.setattr(gpu_check, "make_checks", make_checks)
    monkeypatch.setattr(gpu_check, "find_machine", lambda: MACHINE)
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--out", str(path)])
    with pytest.raises(SystemExit) as stopped:
        gpu_check.main()
    assert stopped.value.code == 130
    assert "Some GPU: 1 of 1 checks passed" in capsys.readouterr().out
    assert [row["found"] for row in json.loads(path.read_text())["Some GPU"]["rows"]] == ["equal"]


def test_results_go_under_docs_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr(gpu_check, "make_checks", lambda args, report: None)
    monkeypatch.setattr(gpu_check, "find_machine", lambda: MACHINE)
    path = gpu_check.run(Args()).path
    assert path.parts[-3:] == ("docs", "benchmarks", "gpu.json") and (path.parents[2] / "docs" / "benchmarks.md").exists()


def test_measured_ids_are_compared_in_every_layout():
    args = Args(ids=("Explore/Empty-v0", "Explore/FourRooms-v0"), measured=("Explore/FourRooms-v0", "Explore/XLand-v0"))
    rooms, worlds = ([(f"Explore/{name}-v0", layout) for layout in ("records", "fields")] for name in ("FourRooms", "XLand"))
    assert args.played() == [*rooms, *worlds, ("Explore/Empty-v0", "records")]
    assert len({env_id for env_id, _ in Args().played()}) == len(Args().ids)


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


def test_training_counts_settled_iterations_and_learning_must_reach_its_score(monkeypatch):
    speeds = [1.0] * gpu_check.SETTLED + [2e6, 3e6, 9e6]
    monkeypatch.setattr(gpu_check, "train_ppo", lambda **settings: [{"sps": speed} for speed in speeds])
    found = gpu_check.train(64, True)
    assert (found["steps_per_second"], found["num_envs"], found["compile"]) == (3e6, 64, True)
    for score, solved in ((0.9, True), (0.5, False)):
        monkeypatch.setattr(gpu_check, "train_ppo", lambda **settings: [{"step": 10, "episode_return": score}])  # noqa: B023
        if solved:
            assert gpu_check.learn()["episode_return"] == score
        else:
            with pytest.raises(AssertionError, match=r"return 0.500 after 10 steps, at least 0.8 expected"):
                gpu_check.learn()


@pytest.mark.slow
def test_training_settings_fit_the_agent(monkeypatch):
    monkeypatch.setattr(gpu_check, "SMALL_ROOMS", dict(gpu_check.SMALL_ROOMS, num_envs=32, total_timesteps=1024))
    from explore_gym.agents import ppo

    args = ppo.Args
    monkeypatch.setattr(ppo, "Args", lambda **settings: args(**{**settings, "device": "cpu"}))
    monkeypatch.setattr(gpu_check, "SOLVED", 0.0)
    assert gpu_check.learn()["found"].endswith("after 1,024 steps")
    monkeypatch.setattr(gpu_check, "ITERATIONS", 7)
    assert gpu_check.train(4, False)["steps_per_second"] > 0


def test_unknown_ids_are_named():
    with pytest.raises(ValueError, match=r"ids must be among .*, got 'Explore/Nowhere-v0'"):
        Args(ids=("Explore/Nowhere-v0",))


def test_without_a_gpu_it_says_so(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu_check.py"])
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stopped:
        gpu_check.main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("error: device 'cuda' isn't there: torch")


@pytest.mark.slow
def test_equal_to_the_cpu_in_the_simulator(tmp_path):
    """The equality check itself, on kernels of every kind, the first in both memory layouts."""
    script, path = Path(gpu_check.__file__), tmp_path / "gpu.json"
    ids = [f"Explore/{name}-v0" for name in NAMES.split()]
    options = ["--num-envs", "2", "--num-steps", "35", "--out", str(path), "--measured", ids[0], "--ids", *ids]
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    result = subprocess.run([sys.executable, str(script), *options], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = json.loads(path.read_text())["simulator"]["rows"]
    assert len(rows) == 1 + len(ids)
    assert all(row["ok"] and row["difference"] == 0.0 and row["episodes"] > 0 for row in rows)
