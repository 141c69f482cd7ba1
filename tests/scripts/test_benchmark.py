import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from rich.console import Console

from explore_gym.agents.common import UsageError
from explore_gym.scripts import benchmark, report
from explore_gym.scripts.benchmark import ROOT, Agent, make_run, parse_agent, smooth
from explore_gym.scripts.reproduce import Scheduler
from explore_gym.scripts.suites import SUITES, Task

FAKE = Path(__file__).with_name("fake_external.py")
TASKS = [
    {"env": "Explore/DeepSea-v0", "kwargs": {"size": 4}, "steps": 1000, "random": 0.0, "optimal": 2.0},
    {"env": "CartPole-v1", "steps": 500, "random": -1.0, "optimal": 1.0},
]
EXAMPLES = {"random": "random_agent.py", "dqn": "sb3_dqn.py"}
DEEP_SEA, CART_POLE = "DeepSea-v0,size=4", "CartPole-v1"


class Bed:
    """A suite of two tasks in a temporary folder; the fake algorithm returns level + seed / 100 on both."""

    def __init__(self, folder):
        self.folder, self.out = folder, folder / "out"
        self.suite = folder / "tiny.json"
        self.suite.write_text(json.dumps(TASKS))

    def fake(self, name, *flags):
        return f"{name}={sys.executable} {FAKE} {' '.join(map(str, flags))}"

    def arguments(self, *more):
        return [str(self.suite), "--out", str(self.out), "--jobs", "2", *map(str, more)]

    def run(self, *more):
        return benchmark.main(self.arguments(*more))

    def start(self, *more):
        command = [sys.executable, str(ROOT / "scripts" / "benchmark.py"), *self.arguments(*more)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def rows(self):
        with open(self.out / "results.csv") as file:
            return {(row["agent"], row["task"], int(row["seed"])): row for row in csv.DictReader(file)}

    def dir(self, agent, task, seed):
        return self.out / "runs" / agent / task / str(seed)

    def starts(self, *run):
        return len((self.dir(*run) / "starts").read_text())


@pytest.fixture
def drawing_bed(tmp_path):
    return Bed(tmp_path)


@pytest.fixture
def bed(drawing_bed, monkeypatch):
    """Without figures, which take the longest."""
    monkeypatch.setattr(report, "draw_figures", lambda *args: {})
    return drawing_bed


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_runs_everything_once_and_writes_tables_figures_and_page(drawing_bed, capsys):
    bed = drawing_bed
    arguments = ["--agents", bed.fake("a", "--level", 0.5), bed.fake("b", "--level", 0.3), "--seeds", 2, 1, "--jobs", 1]
    assert bed.run(*arguments) == 0
    output = capsys.readouterr().out
    order = [line.split(maxsplit=1)[1] for line in output.splitlines() if line.endswith(" started")]
    assert order == [f"{agent} on {task}, seed {s} started" for s in (1, 2) for task in (DEEP_SEA, CART_POLE) for agent in "ab"]

    rows = bed.rows()
    assert set(rows) == {(agent, task, seed) for agent in "ab" for task in (DEEP_SEA, CART_POLE) for seed in (1, 2)}
    row = rows["a", DEEP_SEA, 2]
    assert (row["env"], row["env_kwargs"], row["total_timesteps"]) == ("Explore/DeepSea-v0", '{"size": 4}', "1000")
    assert float(row["episode_return"]) == pytest.approx(0.52)
    assert float(row["score"]) == pytest.approx(0.26)  # 0.52 between 0 and 2
    assert float(rows["a", CART_POLE, 2]["score"]) == pytest.approx(0.76)  # 0.52 between -1 and 1
    assert float(row["seconds"]) == 1.0
    assert row["command"] == f"{sys.executable} {FAKE} --level 0.5"
    table = pyarrow.parquet.read_table(bed.out / "results.parquet").to_pylist()
    assert [(r["agent"], r["task"], r["seed"], f"{r['score']}") for r in table] == [
        (*key, r["score"]) for key, r in rows.items()
    ]
    seen = json.loads((bed.dir("a", DEEP_SEA, 2) / "seen.json").read_text())
    assert (seen["env"], seen["env_kwargs"], seen["seed"]) == ("Explore/DeepSea-v0", {"size": 4}, 2)
    assert json.loads((bed.dir("a", CART_POLE, 1) / "seen.json").read_text())["env_kwargs"] == {}

    page = (bed.out / "report.html").read_text()
    for name in ("iqm", "curves", "profile", "improvement", "tasks"):
        assert (bed.out / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (bed.out / "figures" / f"{name}.svg").read_text()
        assert f'<img alt="{name}" src="data:image/svg+xml;base64,' in page
    assert "http" not in page  # nothing is loaded from elsewhere

    assert bed.run(*arguments) == 0  # nothing is missing now
    assert bed.rows() == rows
    assert bed.starts("a", DEEP_SEA, 1) == 1
    assert (bed.out / "report.html").read_text() == page


def test_agents_can_be_added_to_the_report_later(bed, capsys):
    assert bed.run("--agents", bed.fake("a"), "--seeds", 1) == 0
    assert bed.run("--agents", bed.fake("b"), "--seeds", 1, 2, "--tasks", "Cart*") == 0
    assert {key[:2] for key in bed.rows()} == {("a", DEEP_SEA), ("a", CART_POLE), ("b", CART_POLE)}
    assert bed.run("--report") == 0
    # a alone has a whole seed: (0.41 / 2 + 1.41 / 2) / 2 over both tasks
    assert '<td>a</td><td class="number">0.46 [0.46, 0.46]</td>' in (bed.out / "report.html").read_text()
    assert "Probability of improvement" not in (bed.out / "report.html").read_text()  # there is nothing to compare


def test_functions_and_our_agents_run_beside_command_lines(bed, monkeypatch):
    monkeypatch.chdir(FAKE.parent)
    assert bed.run("--agents", "f=fake_external:train", "p=ppo --num-envs 4 --num-steps 32", "--seeds", 1) == 0
    rows = bed.rows()
    assert float(rows["f", DEEP_SEA, 1]["episode_return"]) == pytest.approx(0.41)
    assert -0.01 <= float(rows["p", DEEP_SEA, 1]["episode_return"]) <= 0.99
    config = json.loads((bed.dir("p", DEEP_SEA, 1) / "config.json").read_text())["args"]
    assert (config["num_envs"], config["total_timesteps"], config["env_kwargs"]) == (4, 1000, '{"size": 4}')


def test_failed_run_is_reported_kept_aside_and_retried_on_request(bed, capsys):
    arguments = ["--agents", bed.fake("a", "--fail-once", bed.folder / "fuse"), "--seeds", 1, "--jobs", 1]
    assert bed.run(*arguments) == 1
    output = capsys.readouterr().out
    assert f"a on {DEEP_SEA}, seed 1 failed with exit code 3" in output
    assert "    the fuse has blown" in output
    assert list(bed.rows()) == [("a", CART_POLE, 1)]
    assert f"a on {DEEP_SEA}, seed 1: failed with exit code 3" in (bed.out / "report.html").read_text()
    assert bed.run(*arguments) == 1
    assert bed.starts("a", CART_POLE, 1) == 1
    assert bed.run(*arguments, "--retry-failed") == 0
    assert len(bed.rows()) == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--stop-early"], "ends at step 500 of 1000"),
        (["--bad", "nonsense"], "metrics.jsonl:10 is no JSON object with a step: 'nonsense'"),
        (["--bad", "'{\"step\":10}'"], "metrics.jsonl:10: step must be an integer >= 900, that of the row before, got 10"),
        (
            ["--bad", '\'{"step":1000,"episode_return":NaN}\''],
            "metrics.jsonl:10: episode_return must be a finite number, got nan",
        ),
    ],
)
def test_metrics_that_cannot_be_used_are_a_failure(bed, capsys, flags, message):
    arguments = ["--agents", bed.fake("a", *flags), "--seeds", 1, "--tasks", "DeepSea*"]
    assert bed.run(*arguments) == 1
    assert message in capsys.readouterr().out
    assert bed.run(*arguments) == 1
    assert "--retry-failed starts it again" in capsys.readouterr().out
    assert bed.starts("a", DEEP_SEA, 1) == 1


def test_kill_9_loses_nothing(bed):
    """The killed program's runs go on; the next start neither doubles nor loses them."""
    go = bed.folder / "go"
    arguments = ["--agents", bed.fake("a", "--wait", go), "--seeds", 1]
    first = bed.start(*arguments)
    metrics = [bed.dir("a", task, 1) / "metrics.jsonl" for task in (DEEP_SEA, CART_POLE)]
    wait_for(lambda: all(path.exists() and len(path.read_text().splitlines()) == 9 for path in metrics))
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    second = bed.start(*arguments)
    output = [second.stdout.readline(), second.stdout.readline()]
    assert all("goes on in a process from before" in line for line in output)
    go.touch()
    second.communicate(timeout=300)
    assert second.returncode == 0
    assert len(bed.rows()) == 2
    assert [bed.starts("a", task, 1) for task in (DEEP_SEA, CART_POLE)] == [1, 1]


def test_a_run_that_failed_while_nobody_watched_is_reported(bed, capsys):
    run = make_run(bed.out, parse_agent(bed.fake("a"), False), Task(**TASKS[0]), 1)
    run.prepare()
    run.file("exit").write_text("4\n")
    assert bed.run("--agents", bed.fake("a"), "--seeds", 1) == 1
    assert f"a on {DEEP_SEA}, seed 1 failed with exit code 4" in capsys.readouterr().out


def test_ctrl_c_stops_the_runs_and_the_next_start_starts_them_again(bed):
    go = bed.folder / "go"
    arguments = ["--agents", bed.fake("a", "--wait", go), "--seeds", 1, "--tasks", "DeepSea*"]
    first = bed.start(*arguments)
    metrics = bed.dir("a", DEEP_SEA, 1) / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and len(metrics.read_text().splitlines()) == 9)
    first.send_signal(signal.SIGINT)
    output, _ = first.communicate(timeout=300)
    assert first.returncode == 130
    assert "stopped" in output
    assert bed.dir("a", DEEP_SEA, 1).with_name("1.exit").read_text() == "143\n"  # of SIGTERM, not a failure
    go.touch()
    assert bed.run(*arguments) == 0
    assert bed.starts("a", DEEP_SEA, 1) == 2


def test_another_run_of_the_same_name_is_refused(bed, capsys):
    assert bed.run("--agents", bed.fake("a"), "--seeds", 1) == 0
    assert bed.run("--agents", bed.fake("a", "--level", 0.9), "--seeds", 1) == 2
    assert "holds another run: agent" in capsys.readouterr().err
    bed.suite.write_text(json.dumps([{**TASKS[0], "steps": 2000}]))
    assert bed.run("--agents", bed.fake("a"), "--seeds", 1) == 2
    assert "total_timesteps 1000 -> 2000; delete it, or give another NAME or --out" in capsys.readouterr().err
    assert bed.run("--report") == 1
    assert "total_timesteps 1000 -> 2000" in capsys.readouterr().out


def test_a_scaled_suite_has_smaller_budgets(bed):
    assert bed.run("--agents", bed.fake("a"), "--seeds", 1, "--scale", 0.1) == 0
    assert {row["total_timesteps"] for row in bed.rows().values()} == {"100", "50"}


def test_scores_are_means_over_the_last_tenth_of_the_budget():
    # budget 100: points at 2, 4 ... 100; windows of 10 steps
    curve = smooth(np.array([5, 60, 95, 100]), np.array([1.0, 2.0, 3.0, 5.0]), 100)
    assert curve[0] != curve[0]  # nothing before the first row
    assert curve[2] == 1.0  # step 6
    assert curve[28] == 1.0  # step 58: no row in 49..58, the last one before
    assert curve[49] == 4.0  # rows 95 and 100 lie in 91..100


def test_rows_after_the_budget_do_not_count(bed):
    task = Task(**TASKS[0])
    run = make_run(bed.out, Agent("a", "true"), task, 1)
    run.dir.mkdir(parents=True)
    rows = [{"step": 900, "episode_return": 1.0}, {"step": 1100, "episode_return": 2.0}, {"step": 1200, "episode_return": 9.0}]
    (run.dir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert benchmark.harvest(run).score == 2.0  # of the row that reaches the budget: 900 is not within 901..1000
    assert run.step == 1200


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--agents"], "name the agents to run"),
        (["--agents", "python x.py"], "'python x.py' is none of our agents ("),
        (["--agents", "a=no-such-program"], "a: there is no program 'no-such-program'"),
        (["--agents", 'a=python "x'], "cannot read the command line 'python \"x': No closing quotation"),
        (["--agents", "ppo", "ppo=rdd"], "two agents are called 'ppo'"),
        (["--agents", "ppo", "--tasks", "Chess"], f"no task 'Chess', expected one of {DEEP_SEA}, {CART_POLE}"),
        (["--agents", "ppo", "--seeds", "-1"], "seeds must be integers >= 0"),
        (["--agents", "ppo", "--scale", "2"], "scale must lie in (0, 1], got 2.0"),
        (["--agents", "ppo", "--store"], "only whole suites are stored, sparse, stochastic, "),
        (["--agents", "ppo", "--jobs", "-1"], "jobs must be at least 1"),
        (["--agents", "ppo", "--gpus-per-run", "-0.5"], "a run needs more than 0 cpus and at least 0 gpus, got 1.0 and -0.5"),
    ],
)
def test_bad_request_is_one_line(bed, capsys, more, message):
    assert bed.run(*more) == 2
    assert message in capsys.readouterr().err
    assert not bed.out.exists()


def test_a_whole_suite_is_stored_for_the_docs(drawing_bed, monkeypatch):
    bed, docs = drawing_bed, drawing_bed.folder / "docs"
    monkeypatch.setattr(benchmark, "STORED", docs)
    monkeypatch.setitem(SUITES, "tabular", [Task(**task) for task in TASKS])
    arguments = [
        "tabular",
        "--out",
        str(bed.out),
        "--jobs",
        "2",
        "--seeds",
        "1",
        "--store",
        "--agents",
        bed.fake("a"),
        bed.fake("b"),
    ]
    assert benchmark.main(arguments) == 0
    names = {"results.csv", "curves.csv", *(f"{name}.png" for name in ("tasks", "iqm", "curves", "profile", "improvement"))}
    assert {path.name for path in (docs / "tabular").iterdir()} == names
    assert (docs / "tabular" / "results.csv").read_bytes() == (bed.out / "results.csv").read_bytes()


def test_a_report_needs_runs(bed, capsys):
    assert bed.run("--report") == 1
    assert "nothing to report" in capsys.readouterr().out


def test_names_and_commands_of_agents():
    arguments = ["--env", "E"]
    ours = [sys.executable, str(ROOT / "agents" / "rdd.py")]
    assert parse_agent("rdd", False).command(arguments) == [*ours, "--env", "E", "--resume", "--quiet"]
    assert parse_agent("rnd=rdd --arm rnd", False) == Agent("rnd", "rdd --arm rnd")
    assert Agent("rnd", "rdd --arm rnd").command(arguments)[2:4] == ["--arm", "rnd"]
    assert Agent("f", "pkg.mod:train").command(arguments)[1:4] == ["-m", "explore_gym.scripts.external", "pkg.mod:train"]
    assert Agent("c", "./run 'a b'").command(arguments) == ["./run", "a b", "--env", "E"]
    with pytest.raises(UsageError, match="needs a name: NAME=rdd --arm rnd"):
        parse_agent("rdd --arm rnd", False)


@pytest.mark.slow
def test_the_examples_of_the_page_run_beside_ours(bed):
    pytest.importorskip("stable_baselines3")
    examples = ROOT / "docs" / "examples"
    agents = [f"{name}={sys.executable} {examples / file}" for name, file in EXAMPLES.items()]
    assert bed.run("--agents", "ppo=ppo --num-envs 4 --num-steps 32", *agents, "--seeds", 1, "--tasks", "DeepSea*") == 0
    returns = {agent: float(row["episode_return"]) for (agent, _, _), row in bed.rows().items()}
    assert set(returns) == {"ppo", *EXAMPLES}
    assert all(-0.01 <= value <= 0.99 for value in returns.values())
    # DeepSea of size 4 in 1000 steps: 250 episodes, and chance finds the treasure in one of 16
    assert 0.0 < returns["random"] < 0.2
    for file in EXAMPLES.values():
        assert f"python docs/examples/{file}" in (ROOT / "docs" / "benchmark.md").read_text()


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster of one node with 2 CPUs and (as far as its book-keeping knows) 1 GPU."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 1})
    yield cluster.address
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_ray_runs_share_machines_and_gpus_report_failures_and_resume(bed, cluster, capfd):
    on_ray = ["--ray-address", cluster, "--cpus-per-run", 0.5, "--gpus-per-run", 0.25, "--jobs", 0]
    go, fuse = bed.folder / "go", bed.folder / "fuse"
    agents = ["--agents", bed.fake("a", "--wait", go), bed.fake("b", "--fail-once", fuse)]
    waiting = [bed.dir("a", task, 1) / "metrics.jsonl" for task in (DEEP_SEA, CART_POLE)]
    first = bed.start(*on_ray, *agents, "--seeds", 1)
    wait_for(lambda: all(path.exists() and len(path.read_text().splitlines()) == 9 for path in waiting))  # both at once
    wait_for(lambda: (bed.dir("b", CART_POLE, 1).with_name("1.exit")).exists())
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=120)
    assert first.returncode == 143
    wait_for(lambda: all(path.parent.with_name("1.exit").exists() for path in waiting))  # cancelled with their children
    go.touch()
    assert bed.run(*on_ray, *agents, "--seeds", 1) == 1
    failed = [key for key in [("b", DEEP_SEA, 1), ("b", CART_POLE, 1)] if key not in bed.rows()]
    assert len(failed) == 1
    assert "the fuse has blown" in capfd.readouterr().out
    assert bed.run(*on_ray, *agents, "--seeds", 1, "--retry-failed") == 0
    assert len(bed.rows()) == 4
    assert [bed.starts("a", task, 1) for task in (DEEP_SEA, CART_POLE)] == [2, 2]
    assert json.loads((bed.dir("a", DEEP_SEA, 1) / "seen.json").read_text())["gpus"] == "0"


def test_a_machine_of_its_own_starts_afresh_and_forgets_failures(bed):
    """Left there by a run that failed, while the machine that asks has forgotten it, by --retry-failed."""
    run = make_run(bed.out, parse_agent(bed.fake("a"), False), Task(**TASKS[0]), 1)
    run.dir.mkdir(parents=True)
    (run.dir / "old").touch()
    run.file("exit").write_text("3\n")
    code, files = benchmark.run_here(run, bed.folder, fresh=True)
    assert code == 0
    assert files["1.exit"] == b"0\n"
    assert len(files["1/metrics.jsonl"].splitlines()) == 10
    assert not (run.dir / "old").exists()
    (run.dir / "checkpoint").touch()
    benchmark.run_here(run, bed.folder, fresh=False)
    assert (run.dir / "checkpoint").exists()


def test_the_live_table_shows_what_is_done_running_and_failed(bed):
    runs = [make_run(bed.out, Agent(name, "true"), Task(**TASKS[0]), seed) for name in "ab" for seed in (1, 2, 3)]
    scheduler = Scheduler([runs[2]], 1, print, None, None)
    runs[1].dir.mkdir(parents=True)
    (runs[1].dir / "metrics.jsonl").write_text('{"step": 420}\n')
    scheduler.running, scheduler.failed = {runs[1]: None, runs[4]: None}, {runs[3]: "reason"}
    (runs[4].dir).mkdir(parents=True)
    (runs[4].dir / "metrics.jsonl").write_text('{"stp": 420}\n')  # a row that will be refused shows as 0 %
    console = Console(file=io.StringIO(), width=100)
    console.print(benchmark.progress_table(scheduler, runs))
    shown = " ".join(console.file.getvalue().split())
    assert "2 of 6 runs, 2 running, 1 failed" in shown
    assert "1/3 42%" in shown
    assert "1/3 0% 1 failed" in shown


def test_files_of_a_run_on_another_machine_are_fetched(bed):
    run = make_run(bed.out, Agent("a", "true"), Task(**TASKS[0]), 1)
    run.prepare()
    benchmark.RayRun(None, run).fetch({"1/metrics.jsonl": b"{}\n", "1.exit": b"0\n"})
    assert run.finished
    assert (run.dir / "metrics.jsonl").read_text() == "{}\n"
