import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

import explore_gym.agents.ppo as ppo
from explore_gym.agents import common, rdd

SMALL = dict(env="Explore/RiverSwim-v0", num_envs=4, num_steps=16, total_timesteps=640, quiet=True)


def rows_without_clock(run_dir):
    rows = common.read_metrics(run_dir / "metrics.jsonl")
    return [{key: x for key, x in row.items() if key not in ("time", "sps")} for row in rows]


class Crash(Exception):
    pass


def train_until_crash(agent, args, step):
    """Makes the log call of that step fail, as a kill in mid-run would."""
    original = common.Run.log

    def log(self, at, metrics):
        if at == step:
            raise Crash
        original(self, at, metrics)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common.Run, "log", log)
        with pytest.raises(Crash):
            agent.train(args)


MAZE = dict(env="Explore/MazeRooms-v0", env_kwargs="{}", warmup_rollouts=1, calibration_interval=128)


@pytest.mark.parametrize(
    ("agent", "changed"),
    [(ppo, {}), (ppo, {"autoreset_mode": "NextStep"}), (rdd, MAZE), (rdd, {**MAZE, "arm": "count"})],
)
def test_resumed_run_repeats_the_uninterrupted_one_bit_for_bit(tmp_path, agent, changed):
    args = {**SMALL, **changed}
    agent.train(agent.Args(**args, run_dir=str(tmp_path / "whole")))
    train_until_crash(agent, agent.Args(**args, run_dir=str(tmp_path / "cut"), checkpoint_interval=1e-9), 384)
    with open(tmp_path / "cut" / "metrics.jsonl", "a") as file:
        file.write('{"step": 384, "cut sho')  # what a kill in mid-write leaves behind
    agent.train(agent.Args(**args, run_dir=str(tmp_path / "cut"), resume=True))
    whole, cut = rows_without_clock(tmp_path / "whole"), rows_without_clock(tmp_path / "cut")
    assert [row["step"] for row in whole] == list(range(64, 641, 64))
    assert cut == whole
    final = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("whole", "cut")]
    assert {k: x for k, x in final[0].items() if k not in ("time", "sps")} == {
        k: x for k, x in final[1].items() if k not in ("time", "sps")
    }


def test_run_killed_before_its_first_checkpoint_starts_again(tmp_path):
    args = dict(**SMALL, run_dir=str(tmp_path / "run"))
    train_until_crash(ppo, ppo.Args(**args), 256)
    ppo.train(ppo.Args(**args, resume=True))
    assert [row["step"] for row in rows_without_clock(tmp_path / "run")] == list(range(64, 641, 64))


def test_env_without_snapshot_resumes_from_a_reset_with_a_warning(tmp_path):
    args = {**SMALL, "env": "CartPole-v1", "run_dir": str(tmp_path / "run")}
    train_until_crash(ppo, ppo.Args(**args, checkpoint_interval=1e-9), 384)
    with pytest.warns(UserWarning, match="no snapshot"):
        ppo.train(ppo.Args(**args, resume=True))
    assert rows_without_clock(tmp_path / "run")[-1]["step"] == 640


def test_run_directory_is_complete(tmp_path):
    run = ppo.train(ppo.Args(**SMALL, run_dir=str(tmp_path / "run")))
    names = {path.name.split(".")[0] for path in run.dir.iterdir()}
    assert {"config", "metrics", "checkpoint", "summary", "events", "learning_curve"} <= names
    config = json.loads((run.dir / "config.json").read_text())
    assert config["args"]["agent"] == "ppo"
    assert config["args"]["num_envs"] == 4
    summary = json.loads((run.dir / "summary.json").read_text())
    assert summary["step"] == 640
    assert summary["entropy"] == rows_without_clock(run.dir)[-1]["entropy"]
    assert (run.dir / "learning_curve.png").read_bytes().startswith(b"\x89PNG")


def test_existing_run_needs_resume(tmp_path):
    args = dict(**SMALL, run_dir=str(tmp_path / "run"))
    ppo.train(ppo.Args(**args))
    with pytest.raises(common.UsageError, match="already holds a run: pass --resume"):
        ppo.train(ppo.Args(**args))


def test_resume_with_another_configuration_names_the_difference(tmp_path):
    args = {**SMALL, "run_dir": str(tmp_path / "run")}
    ppo.train(ppo.Args(**args))
    with pytest.raises(common.UsageError, match=r"another configuration: gamma 0\.99 -> 0\.9, num_envs 4 -> 8"):
        ppo.train(ppo.Args(**{**args, "num_envs": 8}, gamma=0.9, resume=True))
    with pytest.raises(common.UsageError, match="agent 'ppo' -> 'rdd'"):
        rdd.train(rdd.Args(**args, resume=True))


def test_foreign_directory_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(common.UsageError, match="not empty and holds no run"):
        ppo.train(ppo.Args(**SMALL, run_dir=str(tmp_path)))


@pytest.mark.parametrize("damage", ["cut", "flip", "text"])
def test_damaged_checkpoint_is_named(tmp_path, damage):
    args = dict(**SMALL, run_dir=str(tmp_path / "run"))
    ppo.train(ppo.Args(**args))
    path = tmp_path / "run" / "checkpoint.pt"
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "flip":
        middle = len(data) // 2
        data[middle : middle + 64] = bytes(x ^ 0xFF for x in data[middle : middle + 64])
    else:
        data = b"not a checkpoint"
    path.write_bytes(data)
    with pytest.raises(common.UsageError, match=r"checkpoint\.pt is damaged"):
        ppo.train(ppo.Args(**args, resume=True))


def test_seeds_42_and_43_share_no_lane(tmp_path):
    seeds = [common.start(ppo.Args(seed=s, run_dir=str(tmp_path / str(s))), "ppo.py").env_seed for s in (42, 43)]
    assert abs(seeds[0] - seeds[1]) > 100_000
    again = common.start(ppo.Args(seed=42, run_dir=str(tmp_path / "again")), "ppo.py")
    assert again.env_seed == seeds[0]


def test_diverged_metric_stops_the_run(tmp_path):
    run = common.start(ppo.Args(run_dir=str(tmp_path / "run"), quiet=True), "ppo.py")
    run.persist()
    with pytest.raises(FloatingPointError, match="loss/policy is nan at step 64"):
        run.log(64, {"loss/policy": torch.tensor(float("nan"))})


def test_evaluation_plays_equally_many_episodes_in_every_lane():
    envs = common.TorchVectorEnv(common.make_vec("CartPole-v1", 4, {}, "SameStep"))
    metrics = common.evaluate(lambda obs: torch.zeros(len(obs), dtype=torch.long), envs, 10, seed=0)
    assert metrics["eval/episodes"] == 12  # three for each of four lanes
    assert 8 <= metrics["eval/episode_return"] <= 11  # pushing left only drops the pole within 8 to 11 steps
    assert metrics["eval/episode_return"] == metrics["eval/episode_length"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_envs": 0}, "num_envs must be at least 1, got 0"),
        ({"total_timesteps": 0}, "total_timesteps must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"checkpoint_interval": 0.0}, "positive number of seconds, got 0.0"),
        ({"env_kwargs": "[1]"}, r"JSON object such as .* got '\[1\]'"),
        ({"env_kwargs": "{size: 9}"}, "JSON object"),
        ({"autoreset_mode": "Later"}, "got 'Later'"),
    ],
)
def test_bad_arguments_are_named(changed, message):
    with pytest.raises(common.UsageError, match=message):
        common.Args(**changed)


def test_unusable_device_is_named(tmp_path):
    with pytest.raises(common.UsageError, match="device 'abacus' cannot be used"):
        common.start(ppo.Args(device="abacus", run_dir=str(tmp_path / "run")), "ppo.py")


def command(*arguments):
    return [sys.executable, ppo.__file__, "--env", "Explore/RiverSwim-v0", "--quiet", *arguments]


def test_command_line_reports_bad_input_in_one_line_with_exit_code_2(tmp_path):
    result = subprocess.run(command("--num-envs", "0", "--run-dir", str(tmp_path / "run")), capture_output=True, text=True)
    assert result.returncode == 2
    assert "num_envs must be at least 1, got 0" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_interrupt_writes_a_checkpoint_and_says_how_to_resume(tmp_path):
    run_dir = tmp_path / "run"
    process = subprocess.Popen(
        command("--total-timesteps", "100000000", "--run-dir", str(run_dir)), stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    metrics = run_dir / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "continue with" in output
    assert f"--run-dir {run_dir} --resume" in output
    checkpoint = common.read_checkpoint(run_dir / "checkpoint.pt")
    assert checkpoint["step"] == common.read_metrics(metrics)[-1]["step"] > 0


def test_heat_map_and_curve_are_png_files(tmp_path):
    common.heat_map(torch.tensor([[0, 3], [20, 100]]).numpy(), tmp_path / "map.png", "visits")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "score": 2.0}\n{"step": 2, "score": 3.0}\n')
    common.learning_curve([tmp_path], "score", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="no metric 'height'"):
        common.learning_curve([tmp_path], "height", tmp_path / "none.png")
