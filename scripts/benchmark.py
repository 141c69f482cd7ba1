"""The test bed: agents x tasks of a suite x seeds, then a report of how well each explores.

    python scripts/benchmark.py sparse --agents ppo rdd "rnd=rdd --arm rnd" "mine=python my_agent.py" "other=module:train"

An agent is one of ours, with flags if you like; any command line, to which --env, --env-kwargs (if there are any), --seed,
--total-timesteps and --run-dir are appended and which writes metrics.jsonl (see external.py); or a function that takes these
as keywords. NAME= gives it its name. Every run is one single-threaded process in <out>/runs/<agent>/<task>/<seed>. This
program may be stopped (Ctrl-C, even kill -9) and started again at any time: what is done stays, our agents go on from their
checkpoints, others start again. The report has every run in the folder, so that agents can be added later.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from explore_gym.agents.common.errors import UsageError
from explore_gym.scripts.claims import ROOT
from explore_gym.scripts.external import METRICS_FILE
from explore_gym.scripts.report import CURVE_POINTS, Result, summary, write_report
from explore_gym.scripts.reproduce import (
    Job,
    Scheduler,
    drop_failed,
    is_locked,
    launch,
    report_skipped,
    sayer,
    watch,
)
from explore_gym.scripts.suites import SUITES, Task, read_suite

AGENTS = ROOT / "agents"
STORED = ROOT / "docs" / "benchmarks"
WINDOW = 0.1  # share of the budget over which returns are averaged
COMPLETE = 0.9  # share of the budget that the last row must have reached
# Runs a command and writes its exit code to the file $0, whether or not anybody waits for it; signals are the command's.
RECORD_EXIT = 'trap : TERM INT; "$@"; code=$?; echo $code >"$0.tmp"; mv "$0.tmp" "$0"; exit $code'
NAMED = re.compile(r"(\w[\w.+-]*)=(.+)", re.DOTALL)
FUNCTION = re.compile(r"[\w.]+:\w+")


@dataclass
class Args:
    suite: Annotated[str, tyro.conf.Positional]  # name of a suite, or a JSON file with a list of tasks
    agents: tuple[str, ...] = ()  # NAME=agent; one of our agents needs no NAME
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    tasks: tuple[str, ...] = ()  # only these; * stands for anything (default: the whole suite)
    scale: float = 1.0  # of every budget; another experiment, which is stored apart
    out: Path | None = None  # folder of runs and report (default: runs/benchmark/<suite>)
    jobs: int = 0  # runs at the same time (default: one for each core; on Ray: as many as it has room for)
    retry_failed: bool = False  # start failed runs again, from scratch
    report: bool = False  # run nothing, make tables, figures and page of what is there
    store: bool = False  # keep tables and figures in docs/benchmarks/<suite>, too, for the page of the test bed
    ray: bool = False  # run on Ray: on the cluster that RAY_ADDRESS names, else on one of this machine
    ray_address: str = ""  # run on this Ray cluster
    cpus_per_run: float = 1.0  # what Ray sets aside for a run
    gpus_per_run: float = 0.0  # may be a fraction: 0.25 lets four runs share a GPU


@dataclass(frozen=True)
class Agent:
    name: str
    text: str  # as it was given, without the name

    def command(self, arguments: list[str]) -> list[str]:
        words = shlex.split(self.text)
        if words[0] in own_agents():
            return [sys.executable, str(AGENTS / f"{words[0]}.py"), *words[1:], *arguments, "--resume", "--quiet"]
        if FUNCTION.fullmatch(self.text):
            return [sys.executable, "-m", "explore_gym.scripts.external", self.text, *arguments]
        return [*words, *arguments]


def own_agents() -> list[str]:
    return sorted(path.stem for path in AGENTS.glob("*.py") if path.stem != "__init__")


def parse_agent(text: str, on_ray: bool) -> Agent:
    """Raises UsageError where text names no agent of ours, no function and no program that can be found."""
    named = NAMED.fullmatch(text)
    name, what = (named[1], named[2]) if named else (text, text)
    try:
        words = shlex.split(what)
    except ValueError as error:
        raise UsageError(f"cannot read the command line {what!r}: {error}") from error
    if not words or not (named or text in own_agents()):
        raise UsageError(f"{text!r} is none of our agents ({', '.join(own_agents())}); anything else needs a name: NAME={what}")
    program = words[0] not in own_agents() and not FUNCTION.fullmatch(what)
    if program and not on_ray and shutil.which(words[0]) is None:
        raise UsageError(f"{name}: there is no program {words[0]!r}")
    return Agent(name, what)


@dataclass(frozen=True)
class Run(Job):
    """A run and its files: beside those of `Job`, <seed>.json says what it is and <seed>.exit how its process ended."""

    agent: Agent = field(compare=False)
    task: Task = field(compare=False)

    @property
    def exit_code(self) -> int | None:
        path = self.file("exit")
        code = int(path.read_text()) if path.exists() else None
        return None if code is None or code > 128 else code  # more than 128: stopped by a signal

    @property
    def finished(self) -> bool:
        return self.exit_code == 0

    @property
    def step(self) -> int:
        try:
            return super().step
        except (ValueError, KeyError):  # a row that `harvest` will complain about
            return 0

    @property
    def arguments(self) -> dict[str, Any]:
        task = self.task
        return {"env": task.env, "env_kwargs": task.kwargs, "seed": self.seed, "total_timesteps": task.steps}

    @property
    def description(self) -> dict[str, Any]:
        return {"agent": self.agent.text, **self.arguments}

    def command(self) -> list[str]:
        words = []
        for key, value in {**self.arguments, "run_dir": self.dir}.items():
            if value != {}:
                words += [f"--{key.replace('_', '-')}", json.dumps(value) if key == "env_kwargs" else str(value)]
        return ["sh", "-c", RECORD_EXIT, str(self.file("exit")), *self.agent.command(words)]

    def prepare(self) -> None:
        """Says what the run is.

        Raises:
            UsageError: the folder holds another run under this name.
        """
        path = self.file("json")
        if path.exists():
            old = json.loads(path.read_text())
            differing = [f"{key} {old[key]!r} -> {x!r}" for key, x in self.description.items() if old[key] != x]
            if differing:
                raise UsageError(
                    f"{self.dir} holds another run: {', '.join(differing)}; delete it, or give another NAME or --out"
                )
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.file("json.tmp")
        temporary.write_text(json.dumps(self.description) + "\n")
        os.replace(temporary, path)


def make_run(out: Path, agent: Agent, task: Task, seed: int) -> Run:
    return Run(f"{agent.name} on {task.name},", seed, out / "runs" / agent.name / task.name / str(seed), agent, task)


def wanted_runs(args: Args, tasks: list[Task], out: Path) -> list[Run]:
    """The runs asked for, seeds in the outer loop: all agents have a seed before any has the next.

    Raises:
        UsageError: an agent, task or seed that isn't there, or a run that was made with other arguments.
    """
    for pattern in args.tasks:
        if not any(fnmatch(task.name, pattern) for task in tasks):
            raise UsageError(f"no task {pattern!r}, expected one of {', '.join(task.name for task in tasks)}")
    if not args.agents:
        raise UsageError("name the agents to run with --agents, or pass --report to report what is there")
    if not args.seeds or min(args.seeds) < 0:
        raise UsageError(f"seeds must be integers >= 0, at least one, got {args.seeds}")
    agents = [parse_agent(text, on_ray(args)) for text in args.agents]
    twice = [name for name, count in Counter(agent.name for agent in agents).items() if count > 1]
    if twice:
        raise UsageError(f"two agents are called {twice[0]!r}: give one another NAME")
    chosen = [task for task in tasks if not args.tasks or any(fnmatch(task.name, pattern) for pattern in args.tasks)]
    runs = [make_run(out, agent, task, seed) for seed in sorted(set(args.seeds)) for task in chosen for agent in agents]
    for run in runs:
        run.prepare()
    return runs


def stored_runs(tasks: list[Task], out: Path) -> list[Run]:
    """All runs of these tasks in the folder, also of agents that were not asked for now."""
    by_name = {task.name: task for task in tasks}
    runs = []
    for path in sorted((out / "runs").glob("*/*/*.json")):
        agent, task, seed = path.parts[-3], path.parts[-2], path.stem
        if task in by_name and seed.isdecimal():
            text = json.loads(path.read_text())["agent"]
            runs.append(make_run(out, Agent(agent, text), by_name[task], int(seed)))
    return runs


def harvest(run: Run) -> Result:
    """The finished run's learning curve; its last point is the score.

    Point k of the curve is the mean of `episode_return` over the rows of the tenth of the budget that ends there, or the
    last value before if there are none. Rows after the first one that reaches the budget don't count.

    Raises:
        UsageError: the metrics are damaged, have no `episode_return`, or end long before the budget.
    """
    path, budget = run.dir / METRICS_FILE, run.task.steps
    if not path.exists():
        raise UsageError(f"there is no {path}")
    steps, returns, seconds, last = [], [], None, 0
    for number, line in enumerate(path.read_text().split("\n")[:-1], start=1):
        try:
            row = json.loads(line)
            step = row["step"]
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path}:{number} is no JSON object with a step: {line[:80]!r}") from error
        if not isinstance(step, int) or step < last:
            raise UsageError(f"{path}:{number}: step must be an integer >= {last}, that of the row before, got {step!r}")
        if last >= budget:
            break
        last, seconds = step, row.get("time", seconds)
        if "episode_return" in row:
            if not isinstance(row["episode_return"], (int, float)) or not np.isfinite(row["episode_return"]):
                raise UsageError(f"{path}:{number}: episode_return must be a finite number, got {row['episode_return']!r}")
            steps.append(min(step, budget))
            returns.append(float(row["episode_return"]))
    if not steps:
        raise UsageError(f"{path} has no row with episode_return")
    if last < COMPLETE * budget:
        raise UsageError(f"{path} ends at step {last} of {budget}")
    curve = smooth(np.array(steps), np.array(returns), budget)
    return Result(run.agent.name, run.agent.text, run.task, run.seed, curve[-1], curve, seconds)


def smooth(steps: np.ndarray, returns: np.ndarray, budget: int) -> list[float]:
    """Mean return of the rows in the window that ends at each point of the curve; nan before the first row."""
    curve = []
    for point in np.linspace(0, budget, CURVE_POINTS + 1)[1:]:
        before = returns[steps <= point]
        window = returns[(steps <= point) & (steps > point - WINDOW * budget)]
        curve.append(float(window.mean() if len(window) else before[-1] if len(before) else np.nan))
    return curve


def keep(run: Run) -> Result:
    """As `harvest`, but a run that cannot be used counts as failed from now on."""
    try:
        return harvest(run)
    except UsageError as error:
        run.file("failed").write_text(f"cannot be stored: {error}\n")
        raise


def on_ray(args: Args) -> bool:
    return args.ray or bool(args.ray_address)


class RayRun:
    """A run on a Ray cluster that can be waited for and signalled as a local process is."""

    def __init__(self, reference: Any, run: Run):
        self.reference, self.run = reference, run
        self.returncode: int | None = None

    def poll(self) -> int | None:
        import ray

        if self.returncode is None and ray.wait([self.reference], timeout=0)[0]:
            try:
                self.returncode, files = ray.get(self.reference)
            except ray.exceptions.TaskCancelledError:
                self.returncode = -signal.SIGTERM
            except ray.exceptions.RayError as error:  # the worker's machine is gone, or it cannot import this package
                self.run.file("log").write_text(f"Ray: {error}\n")
                self.returncode = 1
            else:
                self.fetch(files)
        return self.returncode

    def fetch(self, files: dict[str, bytes]) -> None:
        """Writes what the run left on its machine, where that doesn't share our file system."""
        self.run.dir.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            path = self.run.dir.parent / name
            if not path.exists() or path.read_bytes() != content:
                path.write_bytes(content)

    def send_signal(self, number: int) -> None:
        import ray

        ray.cancel(self.reference, force=number == signal.SIGKILL)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.run.command(), timeout or 0.0)
            time.sleep(0.1)
        return code


def run_here(run: Run, cwd: Path, fresh: bool) -> tuple[int, dict[str, bytes]]:
    """What Ray does on the machine it chose: the run, then its exit code and its files that are worth keeping.

    Args:
        fresh: where the run was asked for, there is nothing to go on from, so whatever lies here is left over.
    """
    run.dir.parent.mkdir(parents=True, exist_ok=True)
    process, code = None, None
    try:
        while code is None:
            if fresh and not is_locked(run):
                shutil.rmtree(run.dir, ignore_errors=True)
            process = launch(run, run.command(), cwd if cwd.is_dir() else Path.home())
            while is_locked(run):  # by our process, or by one that outlived the program which started it
                time.sleep(0.1)
            code = process.wait() if process else run.exit_code
    finally:
        if process and process.poll() is None:
            process.terminate()
            process.wait(60)
    names = [f"{run.dir.name}/{name}" for name in (METRICS_FILE, "config.json", "summary.json")]
    names += [run.file(ending).name for ending in ("log", "exit")]
    return code, {name: (run.dir.parent / name).read_bytes() for name in names if (run.dir.parent / name).exists()}


def starter(args: Args) -> Any:
    """The function that starts a run, here or on Ray."""
    cwd = Path.cwd()
    if not on_ray(args):
        return lambda run: launch(run, run.command(), cwd)
    try:
        import ray
    except ImportError as error:
        raise UsageError('--ray needs Ray: pip install "explore-gym[benchmark]"') from error
    if not ray.is_initialized():
        handler = signal.getsignal(signal.SIGTERM)
        ray.init(address=args.ray_address or None, log_to_driver=False)
        signal.signal(signal.SIGTERM, handler)  # Ray puts its own there
    there = ray.remote(num_cpus=args.cpus_per_run, num_gpus=args.gpus_per_run)(run_here)
    return lambda run: RayRun(there.remote(run, cwd, not run.dir.exists()), run)


def run_missing(args: Args, runs: list[Run], console: Console) -> None:
    """Does the runs that are not finished, beside a live table."""
    queue: list[Job] = [run for run in runs if not (run.finished and not run.file("failed").exists())]
    skipped = drop_failed(queue, args.retry_failed)
    room = len(queue) if on_ray(args) else os.cpu_count() or 1
    scheduler = Scheduler(queue, args.jobs or max(1, room), sayer(console), starter(args) if queue else None, keep)
    report_skipped(scheduler, skipped)
    watch(scheduler, console, lambda: progress_table(scheduler, runs))


def progress_table(scheduler: Scheduler, runs: list[Run]) -> Table:
    """Agents down, tasks across: seeds that are done, and how far the running ones are."""
    agents, tasks = (list(dict.fromkeys(names)) for names in zip(*((run.agent.name, run.task.name) for run in runs)))
    num_done = sum(run not in scheduler.queue and run not in scheduler.running for run in runs) - len(scheduler.failed)
    minutes = (time.monotonic() - scheduler.started) / 60
    title = (
        f"{num_done} of {len(runs)} runs, {len(scheduler.running)} running, {len(scheduler.failed)} failed, {minutes:.0f} min"
    )
    table = Table(title=title)
    for column in ("agent", *tasks):
        table.add_column(column, justify="left" if column == "agent" else "right")
    for agent in agents:
        cells = []
        for task in tasks:
            here = [run for run in runs if (run.agent.name, run.task.name) == (agent, task)]
            failed = [run for run in here if run in scheduler.failed]
            running = [run for run in here if run in scheduler.running]
            done = [run for run in here if run not in failed and run not in running and run not in scheduler.queue]
            words = [f"[green]{len(done)}[/]/{len(here)}"]
            words += [f"[yellow]{min(100, 100 * run.step // run.task.steps)}%[/]" for run in running]
            words += [f"[red]{len(failed)} failed[/]"] if failed else []
            cells.append(" ".join(words))
        table.add_row(agent, *cells)
    return table


def collect(runs: list[Run]) -> tuple[list[Result], list[str]]:
    """Results of the finished runs, and a line for each of the others."""
    results, missing = [], []
    for run in runs:
        where = f"{run.arm} seed {run.seed}"
        if run.file("failed").exists():
            missing.append(f"{where}: {run.file('failed').read_text().strip()}")
        elif not run.finished:
            missing.append(f"{where}: not finished")
        else:
            try:
                run.prepare()
                results.append(keep(run))
            except UsageError as error:
                missing.append(f"{where}: {error}")
    return results, missing


def store(out: Path, folder: Path) -> None:
    """Copies what a report is made of, except its Parquet files and SVG figures, which the others stand for."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in (*out.glob("*.csv"), *(out / "figures").glob("*.png")):
        shutil.copy(path, folder)


def benchmark(args: Args) -> int:
    """Does what the arguments ask for and returns the exit code."""
    if args.jobs < 0:
        raise UsageError(f"jobs must be at least 1, or 0 for the default, got {args.jobs}")
    if args.cpus_per_run <= 0 or args.gpus_per_run < 0:
        raise UsageError(f"a run needs more than 0 cpus and at least 0 gpus, got {args.cpus_per_run} and {args.gpus_per_run}")
    if args.store and (args.suite not in SUITES or args.scale != 1):
        raise UsageError(f"only whole suites are stored, {', '.join(SUITES)}, got {args.suite} and scale {args.scale:g}")
    tasks, name = read_suite(args.suite, args.scale), Path(args.suite).stem
    scaled = "" if args.scale == 1 else f"-{args.scale:g}"
    out = (args.out or ROOT / "runs" / "benchmark" / f"{name}{scaled}").resolve()
    console = Console()
    if not args.report:
        run_missing(args, wanted_runs(args, tasks, out), console)
    results, missing = collect(stored_runs(tasks, out))
    if not results:
        print("\n".join([*missing, f"no finished run in {out}: nothing to report"]))
        return 1
    page = write_report(out, f"{name}{scaled}", tasks, results, missing)
    if args.store:
        store(out, STORED / name)
    console.print(summary(tasks, results))
    for line in missing:
        print(f"missing: {line}")
    print(f"{len(results)} runs are in {out / 'results.csv'} and .parquet, the report is {page}")
    return 1 if missing else 0


def main(argv: list[str] | None = None) -> int:
    try:
        return benchmark(tyro.cli(Args, args=argv, description=__doc__))
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it was")
        return 130


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so that the runs are stopped in order
    sys.exit(main())
