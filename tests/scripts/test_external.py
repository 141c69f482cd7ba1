import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from explore_gym.scripts import external

PAGE = Path(__file__).parents[2] / "docs" / "benchmark.md"


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_logger_writes_a_row_at_once(tmp_path):
    log = external.Logger(tmp_path / "run")
    log(10, 0.5, success=True)
    (row,) = rows(tmp_path / "run")
    assert row.pop("time") >= 0.0
    assert row == {"step": 10, "episode_return": 0.5, "success": 1.0}
    log(20, loss=2)
    assert "episode_return" not in rows(tmp_path / "run")[1]


def test_logger_starts_anew_or_where_a_checkpoint_was(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 10, "time": 100.0}\n{"step": 20, "time": 200.0}\n{"step": 3')
    log = external.Logger(tmp_path, resume_step=15)
    log(16, 1.0)
    assert [row["step"] for row in rows(tmp_path)] == [10, 16]
    assert 100.0 <= rows(tmp_path)[1]["time"] < 200.0  # time goes on as well
    external.Logger(tmp_path)(1, 1.0)
    assert [row["step"] for row in rows(tmp_path)] == [1]


def test_logger_refuses_what_the_test_bed_cannot_use(tmp_path):
    log = external.Logger(tmp_path)
    log(10, 1.0)
    with pytest.raises(ValueError, match="step must not go back, got 9 after 10"):
        log(9, 1.0)
    with pytest.raises(ValueError, match="episode_return must be a finite number, got nan at step 11"):
        log(11, float("nan"))
    assert len(rows(tmp_path)) == 1


def test_arguments_of_the_test_bed():
    line = ["--env", "E-v0", "--seed", "3", "--total-timesteps", "50", "--run-dir", "there"]
    args = external.arguments([*line, "--env-kwargs", '{"size": 4}'])
    assert (args.env, args.env_kwargs, args.seed, args.total_timesteps, str(args.run_dir)) == (
        "E-v0",
        {"size": 4},
        3,
        50,
        "there",
    )
    assert external.arguments(line).env_kwargs == {}


def test_a_function_gets_the_arguments(tmp_path):
    (tmp_path / "mine.py").write_text("def train(**kwargs): print(sorted(kwargs), kwargs['env_kwargs'], kwargs['seed'] + 1)")
    command = [sys.executable, "-m", "explore_gym.scripts.external"]
    line = ["--env", "E-v0", "--env-kwargs", '{"size": 4}', "--seed", "3", "--total-timesteps", "50", "--run-dir", "there"]
    done = subprocess.run([*command, "mine:train", *line], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "['env', 'env_kwargs', 'run_dir', 'seed', 'total_timesteps'] {'size': 4} 4\n"
    missing = subprocess.run([*command, "mine:test", *line], cwd=tmp_path, capture_output=True, text=True)
    assert missing.returncode == 1
    assert "cannot load 'mine:test'" in missing.stderr


def test_the_two_lines_of_the_page_write_a_row(tmp_path):
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    (row,) = rows(tmp_path / "runs" / "mine")
    assert (row["step"], row["episode_return"]) == (1000, 0.25)


def test_the_logger_needs_nothing_heavy():
    code = "import sys; import explore_gym.scripts.external; print(sorted({'torch', 'numba', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
