import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from explore_gym.agents import common, ppo

AGENTS = Path(ppo.__file__).parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
SIZES = dict(num_envs=4, num_steps=16, num_epochs=2, num_minibatches=2, hidden=16, device="cpu", quiet=True)
GRADIENT = """
import sys, torch
from torch import distributed
from explore_gym.agents import common, ppo

class Spaces:
    layout, num_actions = [common.Part("", 0, 3, shape=(3,))], 4

args = ppo.Args(hidden=8, **eval(sys.argv[2]))
common.join(torch.device("cpu"))
torch.manual_seed(0)
agent = ppo.Agent(Spaces(), args)
m = {key: torch.randn(64, *shape) for key, shape in dict(obs=(3,), logprobs=(), advantages=(), returns=()).items()}
m["actions"], m["logprobs"] = torch.randint(4, (64,)), m["logprobs"] / 10 - 1.4
rank, size = common.RANK, common.WORLD_SIZE
part = {key: x.chunk(size)[rank] for key, x in m.items()}
torch.save(ppo.gradient(agent, part, args)[0], f"{sys.argv[1]}/{size}_{rank}.pt")
"""


def start(command, **environment):
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [dict(), dict(norm_advantages=False, max_grad_norm=1e-3)])
def test_two_processes_have_the_gradient_of_the_double_batch(tmp_path, settings):
    script = tmp_path / "gradient.py"
    script.write_text(GRADIENT)
    arguments = [str(script), str(tmp_path), repr(settings)]
    for command in ([sys.executable, *arguments], [*TORCHRUN, *arguments]):
        done = start(command)
        assert done.returncode == 0, done.stderr
    whole, first, second = (torch.load(tmp_path / f"{name}.pt") for name in ("1_0", "2_0", "2_1"))
    assert torch.equal(first, second)
    assert whole.norm() > 1e-4
    assert torch.allclose(first, whole, rtol=1e-4, atol=1e-7)


def flags(**settings):
    names = {f"--{key.replace('_', '-')}": value for key, value in settings.items()}
    return [name if value is True else f"{name}={value}" for name, value in names.items()]


@pytest.mark.slow
def test_torchrun_trains_one_model_on_lanes_of_its_own(tmp_path):
    settings = dict(SIZES, env="Explore/RiverSwim-v0", run_dir=tmp_path / "run", total_timesteps=512)
    done = start([*TORCHRUN, str(AGENTS / "ppo.py"), *flags(**settings)])
    assert done.returncode == 0, done.stderr
    folders = [tmp_path / "run", tmp_path / "run" / "process1"]
    models = [common.read_checkpoint(folder / "checkpoint.pt") for folder in folders]
    for key, x in models[0]["state/agent"].items():
        assert torch.equal(x, models[1]["state/agent"][key]), key
    assert models[0]["step"] == models[1]["step"] == 512
    assert not torch.equal(models[0]["state/envs"]["env"], models[1]["state/envs"]["env"])
    rows = [common.read_metrics(folder / "metrics.jsonl") for folder in folders]
    assert [row["step"] for row in rows[0]] == [128, 256, 384, 512]  # of both processes together
    assert rows[0][0]["loss/value"] != rows[1][0]["loss/value"]  # each has seen other lanes
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["step"] == 512


def test_other_agents_and_compiled_ones_refuse(tmp_path):
    for name, message in (
        ("gosprl", "trains in one process, got 2: start it without torchrun"),
        ("ppo", "compile must be off"),
    ):
        command = [sys.executable, str(AGENTS / f"{name}.py"), "--run-dir", str(tmp_path / name)]
        done = start([*command, *(["--compile"] if name == "ppo" else [])], WORLD_SIZE="2", RANK="0")
        assert done.returncode == 2, done.stderr
        assert message in done.stderr
        assert not (tmp_path / name).exists()


def test_a_single_process_changes_nothing():
    x = torch.arange(4.0)
    assert common.averaged(x) is x
    assert torch.allclose(common.standardised(x), (x - 1.5) / (5 / 3) ** 0.5)
    assert (common.RANK, common.WORLD_SIZE) == (0, 1)
