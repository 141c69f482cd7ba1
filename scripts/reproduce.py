"""Reproduces a paper's claim: `python scripts/reproduce.py rdd` does the runs that are missing and rebuilds the page.

Every run is one single-threaded process in runs/<slug>/<arm>/<seed>. It resumes from its checkpoint, so this program may
be stopped (Ctrl-C, even kill -9) and started again at any time. Seeds come in the outer loop: all arms have seed 1
before any has seed 2. `--check` runs nothing: it recomputes every inequality from the stored results.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.live import Live
from rich.table import Table

import explore_gym
from explore_gym.agents.common import UsageError, read_metrics
from explore_gym.scripts.claims import ROOT, Claim, Rows, evaluate, read_claim, read_results, verdict, write_page

TAIL_LINES = 15
SINGLE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "NUMBA", "VECLIB_MAXIMUM")}


@dataclass
class Args:
    slug: Annotated[str, tyro.conf.Positional]  # folder in docs/papers
    jobs: int = os.cpu_count() or 1  # runs at the same time
    arms: tuple[str, ...] = ()  # only these; * stands for anything; optional arms run only when named (default: the others)
    seeds: tuple[int, ...] = ()  # only these (default: all)
    quick: bool = False  # fewer seeds and steps; stored in runs/<slug>-quick, apart from the results
    check: bool = False  # run nothing, recompute the inequalities from the stored results; exit code 0 if all hold
    page: bool = False  # run nothing, rebuild table, figures and page
    retry_failed: bool = False  # start failed runs again, from scratch
    merge: Path | None = None  # run nothing, take over the runs stored in this folder that are missing here
    papers_dir: Path = ROOT / "docs" / "papers"
    runs_dir: Path = ROOT / "runs"


@dataclass(frozen=True)
class Job:
    """One run and its files: directory <arm>/<seed>, beside it <seed>.log, and <seed>.failed after a failure."""

    arm: str
    seed: int
    dir: Path

    def file(self, ending: str) -> Path:
        return self.dir.with_name(f"{self.dir.name}.{ending}")

    @property
    def finished(self) -> bool:
        return (self.dir / "summary.json").exists()

    @property
    def exit_code(self) -> int | None:
        """What is known of a run whose process isn't ours; None: it was cut off."""
        return 0 if self.finished else None

    @property
    def step(self) -> int:
        """Environment steps of the newest complete row of metrics."""
        path = self.dir / "metrics.jsonl"
        if not path.exists():
            return 0
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - 20_000))
            lines = file.read().split(b"\n")[:-1]
        return json.loads(lines[-1])["step"] if lines and lines[-1].startswith(b"{") else 0

    def tail(self) -> str:
        lines = self.file("log").read_text(errors="replace").splitlines() if self.file("log").exists() else []
        return "\n".join(f"    {line}" for line in lines[-TAIL_LINES:])


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Process(subprocess.Popen):
    """A process whose signals reach its children too."""

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.killpg(self.pid, number)


def launch(job: Job, command: list[str], cwd: Path) -> Process | None:
    """Starts a run; None if it is still going on, started by a program that was killed or runs beside this one.

    The process inherits a locked file, and the system frees the lock when it ends, however it ends.
    """
    job.dir.parent.mkdir(parents=True, exist_ok=True)
    with open(job.file("lock"), "a") as lock, open(job.file("log"), "a") as log:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        return Process(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **SINGLE_THREAD},
            pass_fds=[lock.fileno()],
            start_new_session=True,  # Ctrl-C reaches the run through this program, once
        )


def is_locked(job: Job) -> bool:
    with open(job.file("lock"), "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def value_at(rows: list[dict], key: str, step: int, window: int) -> float | None:
    """The last value of a metric at or before a step, or its mean over the last `window` steps if that is not 0.

    Rows that tell how many `episodes` ended in them count by that number.
    """
    found = [row for row in rows if key in row and row["step"] <= step and (not window or row["step"] > step - window)]
    if not found:
        return None
    if not window:
        return found[-1][key]
    return float(np.average([row[key] for row in found], weights=[max(1, row.get("episodes", 1)) for row in found]))


def harvest(claim: Claim, job: Job) -> dict:
    """The finished run as a row of the results: metrics at the checkpoints, short curves, time, versions.

    A checkpoint is measured where the run reaches it, i.e. at its first row with at least that many steps.

    Raises:
        UsageError: the run directory was made with other arguments than the claim's, or its metrics are damaged.
    """
    config, summary = (json.loads((job.dir / name).read_text()) for name in ("config.json", "summary.json"))
    for flag, value in {**claim.arms[job.arm].flags, "seed": job.seed}.items():
        found = config["args"].get(flag.replace("-", "_"))
        if found != value:
            raise UsageError(f"{job.dir} was made with {flag} {found!r}, the claim says {value!r}: delete it to run it again")
    try:
        rows = read_metrics(job.dir / "metrics.jsonl")
    except json.JSONDecodeError as error:
        raise UsageError(f"{job.dir / 'metrics.jsonl'} is damaged ({error}): delete {job.dir} to run it again") from error

    metrics: dict[str, dict[str, float]] = {}
    end = 0
    for name, checkpoint in sorted(claim.checkpoints.items(), key=lambda item: item[1]):
        reached = next((row["step"] for row in rows if row["step"] >= checkpoint), None)
        if reached is not None:
            found = {key: value_at(rows, key, reached, spec.get("window", 0)) for key, spec in claim.metrics.items()}
            metrics[name] = {key: rounded(x, 6) for key, x in found.items() if x is not None}
            end = checkpoint
    if not any(metrics.values()):
        raise UsageError(f"{job.dir / 'metrics.jsonl'} has none of {', '.join(claim.metrics)} at a checkpoint of the claim")
    steps = claim.curve_steps(end)
    curves: dict[str, list] = {"step": steps}
    for key in claim.curves:
        window = claim.metrics[key].get("window", 0)
        curves[key] = [None if x is None else rounded(x, 4) for x in (value_at(rows, key, step, window) for step in steps)]
    return {
        "arm": job.arm,
        "seed": job.seed,
        "command": claim.command(job.arm, job.seed),
        "metrics": metrics,
        "curves": curves,
        "seconds": summary["time"],
        "versions": {"explore_gym": explore_gym.__version__, **config["versions"]},
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def keep_snapshot(claim: Claim, job: Job) -> None:
    """Copies the arrays that figures need, of seed 1 only."""
    path = job.dir / claim.snapshot
    if job.seed == 1 and claim.snapshot and path.exists():
        arrays: dict[str, Any] = {key: compact(array) for key, array in np.load(path).items()}
        np.savez_compressed(claim.folder / f"{job.arm}.npz", **arrays)


def rounded(x: float, digits: int) -> float:
    return float(f"{x:.{digits}g}")


def compact(array: np.ndarray) -> np.ndarray:
    """Half the bits, where no digit that a figure shows is lost."""
    if array.dtype == np.float64:
        return array.astype(np.float32)
    if array.dtype == np.int64 and array.size and abs(array).max() < 2**31:
        return array.astype(np.int32)
    return array


def store(claim: Claim, runs: Path, rows: list[dict]) -> int:
    """Appends the rows that are not stored yet, in one write; returns how many."""
    runs.mkdir(parents=True, exist_ok=True)
    with locked(runs / "results.lock"):
        stored = read_results(claim)
        new = [row for row in rows if (row["arm"], row["seed"]) not in stored]
        with open(claim.results_file, "ab", buffering=0) as file:
            file.write("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in new).encode())
            os.fsync(file.fileno())
    return len(new)


class Scheduler:
    """Keeps `jobs` runs going until every run of the queue is kept, has failed or was stopped.

    Args:
        queue: runs to do, in this order.
        jobs: runs at the same time.
        say: prints a line.
        start: starts a run; None if it is still going on in a process that is not ours.
        keep: takes over a finished run; UsageError if that is not possible.
    """

    def __init__(
        self,
        queue: list[Job],
        jobs: int,
        say: Callable[[str], None],
        start: Callable[[Job], Process | None],
        keep: Callable[[Job], None],
    ):
        self.queue, self.num_jobs, self.say, self.start, self.keep = queue, jobs, say, start, keep
        self.running: dict[Job, Process | None] = {}  # None: a process that is not ours
        self.failed: dict[Job, str] = {}
        self.started = time.monotonic()

    def tick(self) -> bool:
        """Collects what has ended and starts what fits; False when nothing is left to do."""
        for job, process in list(self.running.items()):
            ended = not is_locked(job) if process is None else process.poll() is not None
            if ended:
                del self.running[job]
                self.collect(job, process)
        while self.queue and len(self.running) < self.num_jobs:
            job = self.queue.pop(0)
            if job.exit_code is not None and not (job.file("lock").exists() and is_locked(job)):
                self.collect(job, None)
                continue
            self.running[job] = self.start(job)
            where = "started" if self.running[job] else "goes on in a process from before"
            self.say(f"{job.arm} seed {job.seed} {where}")
        return bool(self.running)

    def collect(self, job: Job, process: Process | None) -> None:
        code = process.returncode if process else job.exit_code
        if code is None:
            self.queue.insert(0, job)  # the other program's run stopped half-way: go on with it here
        elif job.finished and code == 0:
            try:
                self.keep(job)
            except UsageError as error:
                self.fail(job, f"cannot be stored: {error}")
                return
            self.say(f"{job.arm} seed {job.seed} stored")
        elif code < 0 or code > 128:
            number = -code if code < 0 else code - 128
            self.fail(job, f"was stopped by signal {number}, the next start goes on from its checkpoint")
        else:
            reason = f"failed with exit code {code}" if code else "ended without a summary.json"
            job.file("failed").write_text(reason + "\n")
            self.fail(job, f"{reason}, --retry-failed starts it again")

    def fail(self, job: Job, reason: str) -> None:
        self.failed[job] = reason
        self.say(f"{job.arm} seed {job.seed} {reason}; end of {job.file('log')}:\n{job.tail()}")

    def stop(self) -> None:
        """Asks our runs to write a checkpoint and end; those that don't within a minute are killed."""
        own = [process for process in self.running.values() if process and process.poll() is None]
        for process in own:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 60
        for process in own:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def progress_table(claim: Claim, scheduler: Scheduler, wanted: list[Job]) -> Table:
    """Arms down, seeds across; a running cell shows how far it is."""
    marks = {}
    to_do, steps_left = 0, 0.0
    for job in wanted:
        total = claim.arms[job.arm].flags["total-timesteps"]
        if job in scheduler.running:
            marks[job.arm, job.seed] = f"[yellow]{100 * job.step // total}%"
            steps_left += max(0, total - job.step)
            to_do += 1
        elif job in scheduler.queue:
            marks[job.arm, job.seed] = "[dim]·"
            steps_left += max(0, total - job.step)
            to_do += 1
        else:
            marks[job.arm, job.seed] = "[red]failed" if job in scheduler.failed else "[green]✓"
    minutes = (time.monotonic() - scheduler.started) / 60
    done = len(wanted) - to_do - len(scheduler.failed)
    title = f"{claim.slug}: {done} of {len(wanted)} runs, {len(scheduler.running)} running, {minutes:.0f} min"
    table = Table(title=f"{title}, {steps_left / 1e6:,.1f}M steps to go")
    seeds = sorted({job.seed for job in wanted})
    for column in ("arm", *map(str, seeds)):
        table.add_column(column, justify="left" if column == "arm" else "right")
    for arm in dict.fromkeys(job.arm for job in wanted):
        table.add_row(arm, *(marks.get((arm, seed), "") for seed in seeds))
    return table


def wanted_jobs(claim: Claim, args: Args, runs: Path) -> list[Job]:
    """The runs asked for, seeds in the outer loop.

    Raises:
        UsageError: an arm or a seed the claim doesn't have.
    """
    for pattern in args.arms:
        if not any(fnmatch(arm, pattern) for arm in claim.arms):
            raise UsageError(f"{claim.slug} has no arm {pattern!r}, expected one of {', '.join(claim.arms)}")
    arms = [
        arm
        for arm in claim.arms.values()
        if any(fnmatch(arm.name, pattern) for pattern in args.arms) or (not args.arms and not arm.optional)
    ]
    for seed in args.seeds:
        if not 1 <= seed <= claim.seeds:
            raise UsageError(f"seeds of {claim.slug} run from 1 to {claim.seeds}, got {seed}")
    seeds = sorted(set(args.seeds)) or range(1, claim.seeds + 1)
    return [Job(arm.name, seed, runs / arm.name / str(seed)) for seed in seeds for arm in arms if seed <= arm.seeds]


def run_missing(claim: Claim, args: Args, runs: Path, console: Console) -> int:
    """Does the runs asked for that are not stored; returns the number of those that failed, now or before."""
    wanted = wanted_jobs(claim, args, runs)
    stored = read_results(claim)
    queue = [job for job in wanted if (job.arm, job.seed) not in stored]
    skipped = drop_failed(queue, args.retry_failed)

    def start(job: Job) -> Process | None:
        command = [sys.executable, str(ROOT / claim.script), *claim.arms[job.arm].arguments(job.seed)]
        return launch(job, [*command, "--run-dir", str(job.dir), "--resume", "--quiet"], ROOT)

    def keep(job: Job) -> None:
        row = harvest(claim, job)
        keep_snapshot(claim, job)
        store(claim, runs, [row])

    scheduler = Scheduler(queue, args.jobs, sayer(console), start, keep)
    report_skipped(scheduler, skipped)
    watch(scheduler, console, lambda: progress_table(claim, scheduler, wanted))
    return len(scheduler.failed)


def drop_failed(queue: list[Job], retry: bool) -> list[Job]:
    """Takes runs that failed before out of the queue and returns them; with `retry` it forgets their failure instead."""
    failed = [job for job in queue if job.file("failed").exists()]
    if retry:
        for job in failed:
            remove_run(job)
        return []
    queue[:] = [job for job in queue if job not in failed]
    return failed


def report_skipped(scheduler: Scheduler, skipped: list[Job]) -> None:
    for job in skipped:
        scheduler.fail(job, f"{job.file('failed').read_text().strip()} before, --retry-failed starts it again")


def sayer(console: Console) -> Callable[[str], None]:
    """A function that prints a line with the time of day."""
    return lambda text: console.print(f"{datetime.now():%H:%M:%S} {text}", markup=False, highlight=False, soft_wrap=True)


def watch(scheduler: Scheduler, console: Console, table: Callable[[], Table]) -> None:
    """Runs the scheduler to its end, on a terminal below a live table; however this ends, its runs are stopped in order."""
    live = Live(console=console, refresh_per_second=1) if console.is_terminal else None
    if live:
        live.start()
    try:
        while scheduler.tick():
            if live:
                live.update(table())
            time.sleep(0.2)
    finally:
        scheduler.stop()
        if live:
            live.update(table())
            live.stop()


def remove_run(job: Job) -> None:
    """Forgets a failed run, so that it starts from scratch."""
    if job.file("lock").exists() and is_locked(job):
        raise UsageError(f"{job.arm} seed {job.seed} is still running, it cannot be started again")
    shutil.rmtree(job.dir, ignore_errors=True)
    for ending in ("log", "exit", "failed"):
        job.file(ending).unlink(missing_ok=True)


def check(claim: Claim, rows: Rows) -> bool:
    """Prints every inequality with its numbers and whether it holds; True if all do."""
    findings = [evaluate(claim, rows, item) for item in claim.inequalities]
    for finding in findings:
        print(f"{finding.status:10} {finding.sentence}: {finding.numbers}")
    counts = Counter(finding.status for finding in findings)
    missing = [f"{arm} {seed}" for arm, seed in claim.required() if (arm, seed) not in rows]
    if missing:
        shown = ", ".join(missing[:8]) + (" ..." if len(missing) > 8 else "")
        print(f"missing    {len(missing)} of {len(claim.required())} runs: {shown}")
    print(f"{verdict(findings)}: {counts['holds']} of {len(findings)} hold")
    return counts["holds"] == len(findings)


def merge(claim: Claim, runs: Path, folder: Path) -> int:
    """Takes over the runs stored in another copy's folder, arrays included; returns how many were new."""
    other = replace(claim, folder=folder)
    if not other.results_file.exists():
        raise UsageError(f"there is no {other.results_file}")
    for arm in claim.arms:
        if (folder / f"{arm}.npz").exists() and not (claim.folder / f"{arm}.npz").exists():
            shutil.copyfile(folder / f"{arm}.npz", claim.folder / f"{arm}.npz")
    return store(claim, runs, list(read_results(other).values()))


def reproduce(args: Args) -> int:
    """Does what the arguments ask for and returns the exit code."""
    if args.jobs < 1:
        raise UsageError(f"jobs must be at least 1, got {args.jobs}")
    runs = args.runs_dir.resolve() / (f"{args.slug}-quick" if args.quick else args.slug)
    claim = read_claim(args.slug, args.papers_dir, runs if args.quick else None)
    if args.check:
        return 0 if check(claim, read_results(claim)) else 1
    claim.folder.mkdir(parents=True, exist_ok=True)
    num_failed = 0
    if args.merge:
        print(f"{merge(claim, runs, args.merge)} runs taken over from {args.merge}")
    elif not args.page:
        num_failed = run_missing(claim, args, runs, Console())
    rows = read_results(claim)
    write_page(claim, rows)
    print(f"{len(rows)} runs are stored in {claim.results_file}, the page is {claim.folder / 'index.md'}")
    check(claim, rows)
    return 1 if num_failed else 0


def main(argv: list[str] | None = None) -> int:
    try:
        return reproduce(tyro.cli(Args, args=argv, description=__doc__))
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it was")
        return 130


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so that the runs are stopped in order
    sys.exit(main())
