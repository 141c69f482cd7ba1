"""The report of the test bed: tables as CSV and Parquet, figures as PNG and SVG, and one HTML page that holds them all.

Scores are normalised: 0 is random, 1 optimal. What is said over a whole suite follows Agarwal et al. (2021,
arXiv:2108.13264): interquartile mean, probability of improvement and performance profile, each with the 95 % interval of
a bootstrap that draws runs within each task. It takes the seeds of an agent that have finished all tasks.
"""

from __future__ import annotations

import base64
import html
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

import matplotlib
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from matplotlib.figure import Figure
from rich.table import Table

import explore_gym
from explore_gym.agents.common.statistics import REPLICAS, bootstrap_iqm, interval, iqm, resample
from explore_gym.scripts.figures import BAND_REPLICAS, COLOURS, panels
from explore_gym.scripts.suites import Task

CURVE_POINTS = 50
THRESHOLDS = np.linspace(0.0, 1.0, 51)  # of the performance profile
PAIR_REPLICAS = 2000  # of the probability of improvement, which compares all pairs of runs in each
STYLE = """body { font: 15px/1.5 system-ui, sans-serif; max-width: 72em; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 } th, td { padding: .25em .8em; border-bottom: 1px solid #ddd }
th, td { text-align: left; vertical-align: top } td.number { font-variant-numeric: tabular-nums; white-space: nowrap }
img { max-width: 100% } code { font-size: 90% }"""


@dataclass(frozen=True)
class Result:
    """A finished run."""

    agent: str
    command: str  # of the agent, as it was given
    task: Task
    seed: int
    score: float  # return at the end of the budget
    curve: list[float]  # returns at CURVE_POINTS equal parts of the budget; nan before the first episode has ended
    seconds: float | None  # as the run logged it


@dataclass(frozen=True)
class Record:
    """All runs of an agent on the tasks of a suite."""

    agent: str
    command: str
    tasks: list[Task]
    results: dict[tuple[str, int], Result]  # task name, seed

    @cached_property
    def seeds(self) -> list[int]:
        """Those that have finished all tasks."""
        return sorted(s for s in {s for _, s in self.results} if all((task.name, s) in self.results for task in self.tasks))

    @cached_property
    def scores(self) -> np.ndarray:
        """Normalised, (seeds, tasks)."""
        rows = [[task.normalised(self.results[task.name, seed].score) for task in self.tasks] for seed in self.seeds]
        return np.array(rows, float).reshape(len(self.seeds), len(self.tasks))

    @cached_property
    def curves(self) -> np.ndarray:
        """Normalised, (seeds, tasks, points)."""
        return np.stack([self.task_curves(task, self.seeds) for task in self.tasks], axis=1)

    def task_seeds(self, task: Task) -> list[int]:
        return sorted(seed for name, seed in self.results if name == task.name)

    def task_scores(self, task: Task) -> np.ndarray:
        return np.array([task.normalised(self.results[task.name, seed].score) for seed in self.task_seeds(task)])

    def task_curves(self, task: Task, seeds: list[int]) -> np.ndarray:
        returns = np.array([self.results[task.name, seed].curve for seed in seeds]).reshape(len(seeds), -1)
        return task.normalised(returns)

    def rng(self, purpose: str) -> np.random.Generator:
        """The same runs have the same intervals in every report; agents are drawn independently of each other."""
        return np.random.default_rng(zlib.crc32(f"{self.agent} {purpose}".encode()))


def make_records(tasks: list[Task], results: list[Result]) -> list[Record]:
    """One per agent, best first; agents that haven't finished a seed of every task come last."""
    records = []
    for agent in sorted({result.agent for result in results}):
        own = [result for result in results if result.agent == agent]
        records.append(Record(agent, own[0].command, tasks, {(x.task.name, x.seed): x for x in own}))
    return sorted(records, key=lambda record: -float(iqm(record.scores)) if record.seeds else np.inf)


def improvement(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Probability that a run of X beats one of Y on the same task, ties counting half; the mean over tasks.

    x (..., num_runs, num_tasks) and y (..., other_num_runs, num_tasks) -> (...).
    """
    left, right = x[..., :, None, :], y[..., None, :, :]
    return ((left > right) + 0.5 * (left == right)).mean((-1, -2, -3))


def profile(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Share of runs that score above each threshold: (..., num_runs, num_tasks) -> (..., num_thresholds)."""
    return np.stack([(scores > threshold).mean((-1, -2)) for threshold in thresholds], axis=-1)


def bands(samples: np.ndarray) -> np.ndarray:
    """Intervals of replicas (replicas, points): (2, points)."""
    return np.transpose([interval(column) for column in samples.T])


def overall(record: Record) -> tuple[float, float, float]:
    """IQM over runs and tasks, with its interval."""
    return float(iqm(record.scores)), *interval(bootstrap_iqm(record.scores, record.rng("iqm")))


def compared(x: Record, y: Record) -> tuple[float, float, float]:
    """Probability of improvement of x over y, with its interval."""
    drawn = [resample(record.scores, record.rng("pairs"), PAIR_REPLICAS) for record in (x, y)]
    return float(improvement(x.scores, y.scores)), *interval(improvement(*drawn))


def on_task(record: Record, task: Task) -> tuple[float, float, float]:
    scores = record.task_scores(task)
    return float(iqm(scores)), *interval(bootstrap_iqm(scores, record.rng(task.name)))


def written(value: tuple[float, float, float]) -> str:
    return "{:.2f} [{:.2f}, {:.2f}]".format(*value)


def task_cell(record: Record, task: Task) -> str:
    count = len(record.task_seeds(task))
    return f"{written(on_task(record, task))} (n={count})" if count else "–"


def write_report(out: Path, name: str, tasks: list[Task], results: list[Result], missing: list[str]) -> Path:
    """Writes results and curves as CSV and Parquet, figures/ as PNG and SVG, and report.html; returns the page.

    Args:
        missing: a line for each run that should be there and isn't.
    """
    records = make_records(tasks, results)
    write_tables(out, results)
    figures = draw_figures(records, tasks)
    folder = out / "figures"
    folder.mkdir(exist_ok=True)
    for path in [*folder.glob("*.png"), *folder.glob("*.svg")]:
        path.unlink()
    with matplotlib.rc_context({"svg.hashsalt": name}):  # the same data give the same files
        for title, figure in figures.items():
            figure.savefig(folder / f"{title}.png", dpi=130, metadata={"Software": None})
            figure.savefig(folder / f"{title}.svg", metadata={"Date": None, "Creator": None})
    page = out / "report.html"
    page.write_text(render(name, tasks, records, missing, {title: folder / f"{title}.svg" for title in figures}))
    return page


def write_tables(out: Path, results: list[Result]) -> None:
    """results: one row per run; curves: one row per point of a learning curve."""
    runs, points = [], []
    for x in sorted(results, key=lambda x: (x.agent, x.task.name, x.seed)):
        key = {"agent": x.agent, "task": x.task.name, "seed": x.seed}
        settings = {"env": x.task.env, "env_kwargs": json.dumps(x.task.kwargs), "total_timesteps": x.task.steps}
        references = {"random": float(x.task.random), "optimal": float(x.task.optimal), "source": x.task.source}
        score = {"episode_return": x.score, "score": x.task.normalised(x.score), "seconds": x.seconds}
        runs.append({**key, **settings, **references, **score, "command": x.command})
        for i, value in enumerate(x.curve, start=1):
            step = x.task.steps * i // CURVE_POINTS
            if np.isfinite(value):
                points.append({**key, "step": step, "episode_return": value, "score": x.task.normalised(value)})
    for name, rows in (("results", runs), ("curves", points)):
        table = pa.Table.from_pylist(rows)
        pyarrow.csv.write_csv(table, out / f"{name}.csv")
        pyarrow.parquet.write_table(table, out / f"{name}.parquet")


def read_results(path: Path, tasks: list[Task]) -> list[Result]:
    """The runs of a results.csv on these tasks, without their curves."""
    named = {task.name: task for task in tasks}
    rows = [row for row in pyarrow.csv.read_csv(path).to_pylist() if row["task"] in named]
    return [Result(x["agent"], x["command"], named[x["task"]], x["seed"], x["episode_return"], [], x["seconds"]) for x in rows]


def score_rows(tasks: list[Task], results: list[Result]) -> list[list[str]]:
    """For each agent, best first: its name, its score on all tasks, and on each."""
    rows = []
    for record in make_records(tasks, results):
        whole = f"{written(overall(record))} (n={len(record.seeds)})" if record.seeds else "–"
        rows.append([record.agent, whole, *(task_cell(record, task) for task in tasks)])
    return rows


def summary(tasks: list[Task], results: list[Result]) -> Table:
    """The scores as a table for the terminal."""
    table = Table(title="normalised return: IQM [95 % interval]")
    for column in ("agent", "all tasks", *(task.name for task in tasks)):
        table.add_column(column)
    for row in score_rows(tasks, results):
        table.add_row(*row)
    return table


def draw_figures(records: list[Record], tasks: list[Task]) -> dict[str, Figure]:
    """Figures by name; those over the whole suite need agents with a seed of every task."""
    whole = [record for record in records if record.seeds]
    colours = {agent: COLOURS[i % len(COLOURS)] for i, agent in enumerate(sorted(record.agent for record in records))}
    figures = {"tasks": draw_tasks(records, tasks, colours)}
    if whole:
        figures["iqm"] = draw_intervals([(r.agent, overall(r), colours[r.agent]) for r in whole], "normalised return, IQM")
        figures["curves"] = draw_curves(whole, colours)
        figures["profile"] = draw_profile(whole, colours)
    if len(whole) > 1:
        pairs = [(f"{x.agent} > {y.agent}", compared(x, y), colours[x.agent]) for x, y in combinations(whole, 2)]
        figures["improvement"] = draw_intervals(pairs, "probability of improvement", 0.5)
    return figures


def draw_intervals(rows: list[tuple[str, tuple[float, float, float], str]], label: str, line: float = 0.0) -> Figure:
    """One row each: a bar for the interval, a mark for the value."""
    figure, (axes,) = panels(1, 1, 6.0, 0.8 + 0.35 * len(rows))
    for height, (_, (value, low, high), colour) in enumerate(reversed(rows)):
        axes.barh(height, high - low, left=low, height=0.6, color=colour, alpha=0.35, linewidth=0)
        axes.plot([value, value], [height - 0.3, height + 0.3], color=colour, linewidth=2)
    axes.axvline(line, color="0.5", linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(rows)), [name for name, _, _ in reversed(rows)])
    axes.set_xlabel(label)
    axes.set_xlim(min(0.0, *(low for _, (_, low, _), _ in rows)), max(1.0, *(high for _, (_, _, high), _ in rows)))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_curve(axes: matplotlib.axes.Axes, x: np.ndarray, curves: np.ndarray, record: Record, colour: str) -> None:
    """IQM and intervals of curves (seeds, tasks, points), where every run has a value."""
    there = np.isfinite(curves).all((0, 1))
    if not there.any():
        return
    drawn = [bootstrap_iqm(curves[:, :, i], record.rng(f"curve {i}"), BAND_REPLICAS) for i in np.flatnonzero(there)]
    axes.plot(x[there], [iqm(curves[:, :, i]) for i in np.flatnonzero(there)], color=colour, label=record.agent, linewidth=1.6)
    axes.fill_between(x[there], *bands(np.transpose(drawn)), color=colour, alpha=0.18, linewidth=0)


def draw_curves(records: list[Record], colours: dict[str, str]) -> Figure:
    figure, (axes,) = panels(1, 1, 6.0, 4.0)
    share = np.arange(1, CURVE_POINTS + 1) / CURVE_POINTS
    for record in records:
        draw_curve(axes, share, record.curves, record, colours[record.agent])
    return finish(figure, [axes], "share of the budget", "normalised return, IQM")


def draw_tasks(records: list[Record], tasks: list[Task], colours: dict[str, str]) -> Figure:
    figure, axes = panels(len(tasks), min(len(tasks), 3), 4.2, 3.2)
    for panel, task in zip(axes, tasks):
        steps = task.steps * np.arange(1, CURVE_POINTS + 1) / CURVE_POINTS
        for record in records:
            seeds = record.task_seeds(task)
            if seeds:
                draw_curve(panel, steps, record.task_curves(task, seeds)[:, None], record, colours[record.agent])
        panel.set_title(task.name, fontsize=9)
    return finish(figure, axes, "environment steps", "normalised return")


def draw_profile(records: list[Record], colours: dict[str, str]) -> Figure:
    figure, (axes,) = panels(1, 1, 6.0, 4.0)
    for record in records:
        colour, drawn = colours[record.agent], resample(record.scores, record.rng("profile"), PAIR_REPLICAS)
        axes.plot(THRESHOLDS, profile(record.scores, THRESHOLDS), color=colour, label=record.agent, linewidth=1.6)
        axes.fill_between(THRESHOLDS, *bands(profile(drawn, THRESHOLDS)), color=colour, alpha=0.18, linewidth=0)
    axes.set_ylim(0, 1.02)
    return finish(figure, [axes], "normalised return τ", "share of runs above τ")


def finish(figure: Figure, axes: list, xlabel: str, ylabel: str) -> Figure:
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.25)
        panel.set_xlim(left=0)
    figure.supxlabel(xlabel, fontsize=10)
    figure.supylabel(ylabel, fontsize=10)
    entries = {label: handle for panel in axes for handle, label in zip(*panel.get_legend_handles_labels())}
    if entries:
        labels = sorted(entries)
        figure.legend([entries[label] for label in labels], labels, loc="outside upper center", ncols=5, frameon=False)
    return figure


def render(name: str, tasks: list[Task], records: list[Record], missing: list[str], figures: dict[str, Path]) -> str:
    """The page, figures inside."""
    whole = [record for record in records if record.seeds]
    return "\n".join(
        [
            f"<!doctype html><html lang=en><meta charset=utf-8><title>{name}</title><style>{STYLE}</style>",
            f"<h1>{html.escape(name)}</h1>",
            paragraph(
                f"explore-gym {explore_gym.__version__}. Returns are normalised: 0 is random actions, 1 the best policy. "
                f"Values are interquartile means with 95 % intervals of a stratified bootstrap ({REPLICAS:,} replicas). "
                "A score is the mean return of training episodes over the last tenth of the budget."
            ),
            "<h2>All tasks</h2>",
            table(
                ["Agent", "IQM", "Runs", "Command"],
                [[r.agent, written(overall(r)), str(len(r.seeds) * len(tasks)), r.command] for r in whole],
            ),
            *images(figures, ["iqm", "curves", "profile"]),
            *([] if len(whole) < 2 else ["<h2>Probability of improvement</h2>", pairs_table(whole)]),
            *images(figures, ["improvement"]),
            "<h2>Each task</h2>",
            table(["Task", *(r.agent for r in records)], [[t.name, *(task_cell(r, t) for r in records)] for t in tasks]),
            *images(figures, ["tasks"]),
            "<h2>The suite</h2>",
            table(
                ["Task", "Id", "Arguments", "Steps", "Random", "Optimal", "Source"],
                [
                    [t.name, t.env, json.dumps(t.kwargs), f"{t.steps:,}", f"{t.random:g}", f"{t.optimal:g}", t.source]
                    for t in tasks
                ],
            ),
            *([] if not missing else ["<h2>Missing runs</h2>", *map(paragraph, missing)]),
            "</html>\n",
        ]
    )


def pairs_table(records: list[Record]) -> str:
    """Probability that the row's agent beats the column's."""
    cell: Callable[[Record, Record], str] = lambda x, y: "" if x is y else written(compared(x, y))
    return table(["beats", *(y.agent for y in records)], [[x.agent, *(cell(x, y) for y in records)] for x in records])


def paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


def table(header: list[str], body: list[list[str]]) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    rows = ["".join(f"<td{kind(cell)}>{html.escape(cell)}</td>" for cell in line) for line in body]
    return f"<table><tr>{head}</tr>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"


def kind(cell: str) -> str:
    return ' class="number"' if cell[:1].isdigit() or cell[:1] == "-" else ""


def images(figures: dict[str, Path], names: list[str]) -> list[str]:
    there = [name for name in names if name in figures]
    return [
        f'<p><img alt="{name}" src="data:image/svg+xml;base64,{base64.b64encode(figures[name].read_bytes()).decode()}"></p>'
        for name in there
    ]
