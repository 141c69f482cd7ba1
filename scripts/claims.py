"""A paper's claim as data: which runs it needs, what must hold, what the stored results say, and the page made of it.

`docs/papers/<slug>/` holds claim.json (arms, seeds, checkpoints, inequalities), results.jsonl (one line per run),
visits-like arrays of one seed (<arm>.npz), the figures and index.md, whose marked sections are generated.
"""

from __future__ import annotations

import json
import math
import operator
import re
import shlex
import zlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from explore_gym.agents.common.errors import UsageError
from explore_gym.agents.common.statistics import REPLICAS, bootstrap_iqm, interval, iqm

ROOT = Path(__file__).resolve().parents[1]
RELATIONS = {">=": operator.ge, "<=": operator.le}
STATISTICS = {"iqm": "", "mean": "mean ", "lowest": "lowest ", "highest": "highest "}  # over seeds -> how a sentence says it
CURVE_POINTS = 100
ROW_KEYS = {"arm", "seed", "command", "metrics", "curves", "seconds", "versions", "finished"}
SECTION = re.compile(r"(<!-- generated: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Arm:
    name: str
    label: str
    flags: dict[str, Any]  # command line: {"arm": "rnd"} is --arm rnd, {"compile": true} is --compile
    seeds: int
    optional: bool  # runs only when named; no inequality needs it

    def arguments(self, seed: int) -> list[str]:
        words = []
        for flag, value in {**self.flags, "seed": seed}.items():
            words += [f"--{flag}"] if value is True else [f"--{flag}", str(value)]
        return words


@dataclass(frozen=True)
class Inequality:
    """IQM(metric, left) relation factor * IQM(metric, right) + offset at a checkpoint.

    Without a right arm the right side is the offset. Where left is a list of arms, the left side is Spearman's rank
    correlation of their values with their order.
    """

    metric: str
    at: str
    left: str | list[str]
    relation: str
    right: str = ""
    statistic: str = "iqm"  # over seeds, of both sides
    right_statistic: str = ""  # of the right side, where it is another
    right_at: str = ""  # checkpoint of the right side, where it is another
    factor: float = 1.0
    offset: float = 0.0
    separate_intervals: bool = False  # the two sides' intervals must lie apart, too

    @property
    def sides(self) -> tuple[str, str]:
        """The statistics of the two sides."""
        return self.statistic, self.right_statistic or self.statistic

    @property
    def arms(self) -> list[str]:
        return [*([self.left] if isinstance(self.left, str) else self.left), *([self.right] if self.right else [])]


@dataclass(frozen=True)
class Claim:
    """claim.json, and where its results are: in the same folder, or for the quick version apart from it."""

    slug: str
    title: str
    script: str
    seeds: int
    checkpoints: dict[str, int]  # name -> environment steps
    arms: dict[str, Arm]
    metrics: dict[str, dict]  # key in metrics.jsonl -> label, window: steps over which to average (else the last value)
    curves: tuple[str, ...]  # metrics whose learning curves are kept
    columns: tuple[tuple[str, str], ...]  # metric, checkpoint
    tables: dict[str, list[str]]  # name -> arms
    figures: dict[str, dict]
    inequalities: tuple[Inequality, ...]
    log_steps: bool  # learning curves on a logarithmic scale of steps
    unit: str  # what --total-timesteps counts, as sentences say it
    snapshot: str  # array file of a run directory that is kept for seed 1; "" for none
    folder: Path  # of results, figures and page
    template: Path  # page whose marked sections are filled in

    @property
    def results_file(self) -> Path:
        return self.folder / "results.jsonl"

    def command(self, arm: str, seed: int) -> str:
        return shlex.join(["python", self.script, *self.arms[arm].arguments(seed)])

    def steps(self, at: str) -> str:
        """A checkpoint as a sentence says it: 320 iterations, 2k steps, 1M steps."""
        count = self.checkpoints[at]
        scale, letter = (1e6, "M") if count >= 1e6 else (1e3, "k") if count >= 1e3 else (1, "")
        return f"{count / scale:g}{letter} {self.unit}"

    def curve_steps(self, end: int) -> list[int]:
        """The steps at which learning curves are kept, up to `end`."""
        if self.log_steps:
            return sorted({round(end ** (point / CURVE_POINTS)) for point in range(1, CURVE_POINTS + 1)})
        return [end * point // CURVE_POINTS for point in range(1, CURVE_POINTS + 1)]

    def required(self) -> list[tuple[str, int]]:
        """(arm, seed) of every run the verdict stands on, seeds in the outer loop."""
        arms = [arm for arm in self.arms.values() if not arm.optional]
        return [(arm.name, seed) for seed in range(1, self.seeds + 1) for arm in arms if seed <= arm.seeds]


def read_claim(slug: str, papers: Path, quick_folder: Path | None = None) -> Claim:
    """Reads papers/<slug>/claim.json; with quick_folder its reduced version, whose results live there.

    Raises:
        UsageError: there is no such claim, or the file contradicts itself.
    """
    path = papers / slug / "claim.json"
    if not path.is_file():
        known = sorted(p.parent.name for p in papers.glob("*/claim.json"))
        raise UsageError(f"no claim {slug!r} in {papers}; there is {', '.join(known) or 'none'}")
    try:
        data = json.loads(path.read_text())
        quick = data.pop("quick") if quick_folder else {}
        data = {**data, **{key: x for key, x in quick.items() if key != "flags"}}
        arms = {}
        for name, arm in data["arms"].items():
            seeds = min(arm.get("seeds", data["seeds"]), data["seeds"])
            own = {**data["flags"], **arm.get("flags", {}), **quick.get("flags", {})}
            arms[name] = Arm(name, arm["label"], own, seeds, arm.get("optional", False))
        claim = Claim(
            slug=slug,
            title=data["title"],
            script=data["script"],
            seeds=data["seeds"],
            checkpoints=data["checkpoints"],
            arms=arms,
            metrics=data["metrics"],
            curves=tuple(data["curves"]),
            columns=tuple((metric, at) for metric, at in data["columns"]),
            tables=data["tables"],
            figures=data["figures"],
            inequalities=tuple(Inequality(**item) for item in data["inequalities"]),
            log_steps=data.get("log_steps", False),
            unit=data.get("unit", "steps"),
            snapshot=data.get("snapshot", ""),
            folder=quick_folder or path.parent,
            template=path.parent / "index.md",
        )
    except json.JSONDecodeError as error:
        raise UsageError(f"{path} is not JSON: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: {type(error).__name__} {error}") from error
    check_names(claim, path)
    return claim


def check_names(claim: Claim, path: Path) -> None:
    """Every name used in the claim is one it defines."""

    def known(what: str, names: Iterable[str], defined: Collection[str]) -> None:
        for name in names:
            if name not in defined:
                raise UsageError(f"{path}: unknown {what} {name!r}, expected one of {', '.join(defined)}")

    known("metric", [*claim.curves, *(i.metric for i in claim.inequalities), *(m for m, _ in claim.columns)], claim.metrics)
    ats = [at for i in claim.inequalities for at in (i.at, i.right_at or i.at)]
    known("checkpoint", [*ats, *(at for _, at in claim.columns)], claim.checkpoints)
    required = [name for name, arm in claim.arms.items() if not arm.optional]
    known("required arm", [arm for i in claim.inequalities for arm in i.arms], required)
    known("arm", [name for names in claim.tables.values() for name in names], claim.arms)
    known("relation", [i.relation for i in claim.inequalities], RELATIONS)
    known("statistic", [x for i in claim.inequalities for x in i.sides], STATISTICS)
    for arm in claim.arms.values():
        if "total-timesteps" not in arm.flags:
            raise UsageError(f"{path}: arm {arm.name!r} has no flag total-timesteps")
    if not claim.inequalities:
        raise UsageError(f"{path}: a claim needs at least one inequality")


Rows = dict[tuple[str, int], dict]


def read_results(claim: Claim) -> Rows:
    """Stored runs by (arm, seed).

    Raises:
        UsageError: a damaged row, an unknown arm, a run of another command line, or two rows for one run.
    """
    rows: Rows = {}
    text = claim.results_file.read_text() if claim.results_file.exists() else ""
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        where = f"{claim.results_file}:{number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        if not line.endswith("\n") or not isinstance(row, dict) or set(row) != ROW_KEYS:
            raise UsageError(f"{where} is damaged: delete this line, the run is then harvested or done again")
        arm, seed = row["arm"], row["seed"]
        if arm not in claim.arms or seed not in range(1, claim.arms[arm].seeds + 1):
            raise UsageError(f"{where}: the claim has no arm {arm!r} with seed {seed!r}")
        if row["command"] != claim.command(arm, seed):
            raise UsageError(f"{where} was made by\n  {row['command']}\nbut the claim says\n  {claim.command(arm, seed)}")
        values = [x for at in row["metrics"].values() for x in at.values()]
        if not values or not all(isinstance(x, (int, float)) and math.isfinite(x) for x in values):
            raise UsageError(f"{where}: metrics must be finite numbers, got {row['metrics']}")
        if (arm, seed) in rows:
            raise UsageError(f"{where} is a second row for arm {arm}, seed {seed}: keep one")
        rows[arm, seed] = row
    return rows


def number(x: float) -> str:
    """Three digits, or all of those before the point."""
    return f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.3g}"


@dataclass(frozen=True)
class Estimate:
    """IQM, mean, lowest or highest over seeds with its 95 % bootstrap interval."""

    scores: tuple[float, ...]
    key: str  # seeds the bootstrap: the same sample has the same interval everywhere, different arms draw independently
    statistic: str = "iqm"

    @property
    def value(self) -> float:
        return float({"iqm": iqm, "mean": np.mean, "lowest": np.min, "highest": np.max}[self.statistic](self.scores))

    @cached_property
    def replicas(self) -> np.ndarray:
        rng = np.random.default_rng(zlib.crc32(self.key.encode()))
        if self.statistic == "iqm":
            return bootstrap_iqm(self.scores, rng)
        drawn = np.array(self.scores)[rng.integers(len(self.scores), size=(REPLICAS, len(self.scores)))]
        return {"mean": np.mean, "lowest": np.min, "highest": np.max}[self.statistic](drawn, axis=1)

    @cached_property
    def interval(self) -> tuple[float, float]:
        return interval(self.replicas)

    def __str__(self) -> str:
        return f"{number(self.value)} [{number(self.interval[0])}, {number(self.interval[1])}]"


@dataclass(frozen=True)
class Trend:
    """Spearman's rank correlation of estimates with their order, from -1 to 1, with its 95 % bootstrap interval."""

    estimates: tuple[Estimate, ...]

    @property
    def value(self) -> float:
        return float(order_correlation(np.array([x.value for x in self.estimates])))

    @cached_property
    def replicas(self) -> np.ndarray:
        return order_correlation(np.stack([x.replicas for x in self.estimates], -1))

    @cached_property
    def interval(self) -> tuple[float, float]:
        return interval(self.replicas)

    def __str__(self) -> str:
        return f"{number(self.value)} [{number(self.interval[0])}, {number(self.interval[1])}]"


def order_correlation(x: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation of x (..., n) with 0..n-1, ties averaged; 0 where all are equal. Shape (...)."""
    below = (x[..., :, None] > x[..., None, :]).sum(-1)
    equal = (x[..., :, None] == x[..., None, :]).sum(-1)
    ranks = below + (equal - 1) / 2
    order = np.arange(x.shape[-1])
    ranks, order = ranks - ranks.mean(-1, keepdims=True), order - order.mean()
    norm = np.sqrt((ranks**2).sum(-1) * (order**2).sum())
    return (ranks * order).sum(-1) / np.where(norm == 0, 1.0, norm)


def estimate(claim: Claim, rows: Rows, arm: str, metric: str, at: str, statistic: str = "iqm") -> Estimate | None:
    """None where no stored run of the arm has the metric at that checkpoint."""
    stored = [rows[arm, seed] for seed in range(1, claim.arms[arm].seeds + 1) if (arm, seed) in rows]
    scores = [row["metrics"][at][metric] for row in stored if metric in row["metrics"].get(at, {})]
    return Estimate(tuple(scores), f"{arm} {metric} {at}", statistic) if scores else None


@dataclass(frozen=True)
class Finding:
    """What the stored runs say about one inequality; margin > 0 means that it holds by that much."""

    sentence: str
    left: Estimate | Trend | None
    right: Estimate | None  # None as well where the right side is a number
    margin: float
    margin_interval: tuple[float, float]
    status: str  # "holds", "fails" or "incomplete": runs are missing

    @property
    def numbers(self) -> str:
        if math.isnan(self.margin):
            return "no runs of an arm"
        low, high = self.margin_interval
        against = f" against {self.right}" if self.right else ""
        return f"{self.left}{against}, margin {number(self.margin)} [{number(low)}, {number(high)}]"


def evaluate(claim: Claim, rows: Rows, item: Inequality) -> Finding:
    """Recomputes one inequality from the stored runs."""
    statistic, right_statistic = item.sides
    estimates = {arm: estimate(claim, rows, arm, item.metric, item.at, statistic) for arm in item.arms}
    found = {arm: x for arm, x in estimates.items() if x}
    left: Estimate | Trend | None
    if isinstance(item.left, str):
        left = found.get(item.left)
    else:
        left = Trend(tuple(found[arm] for arm in item.left)) if found.keys() >= set(item.left) else None
    right_at = item.right_at or item.at
    right = estimate(claim, rows, item.right, item.metric, right_at, right_statistic) if item.right else None
    sentence = describe(claim, item)
    if not left or (item.right and not right):
        return Finding(sentence, left, right, math.nan, (math.nan, math.nan), "incomplete")
    sign = 1 if item.relation == ">=" else -1
    bound, bounds = (right.value, right.replicas) if right else (0.0, np.zeros(1))
    margin = sign * (left.value - item.factor * bound - item.offset)
    margins = sign * (left.replicas - item.factor * bounds - item.offset)
    holds = RELATIONS[item.relation](left.value, item.factor * bound + item.offset)
    if item.separate_intervals and right:
        above, below = (left, right) if sign > 0 else (right, left)
        holds = holds and above.interval[0] > below.interval[1]
    whole = all(len(x.scores) == claim.arms[arm].seeds for arm, x in found.items())
    status = "incomplete" if not whole else "holds" if holds else "fails"
    return Finding(sentence, left, right, margin, interval(margins), status)


def describe(claim: Claim, item: Inequality) -> str:
    name, right_name = (STATISTICS[x] + claim.metrics[item.metric]["label"] for x in item.sides)
    factor = f"{item.factor:g} × " if item.factor != 1 else ""
    offset = f" {'+' if item.offset > 0 else '−'} {abs(item.offset):g}" if item.offset else ""
    right = (
        f"{factor}{right_name}({claim.arms[item.right].label}){offset}" if item.right else f"{item.offset:g}".replace("-", "−")
    )
    apart = ", intervals apart" if item.separate_intervals else ""
    relation = {">=": "≥", "<=": "≤"}[item.relation]
    if isinstance(item.left, str):
        left = f"{name}({claim.arms[item.left].label})"
    else:
        left = f"Spearman of {name} over ({', '.join(claim.arms[arm].label for arm in item.left)})"
    at = claim.steps(item.at)
    if item.right_at:
        at += f" against {claim.steps(item.right_at)}"
    return f"{left} {relation} {right} at {at}{apart}"


def verdict(findings: list[Finding]) -> str:
    if any(finding.status == "incomplete" for finding in findings):
        return "incomplete"
    num_hold = sum(finding.status == "holds" for finding in findings)
    return "reproduced" if num_hold == len(findings) else "partly reproduced" if num_hold else "not reproduced"


def render_page(claim: Claim, rows: Rows) -> str:
    """The template with every marked section made anew from the claim and the stored runs.

    Raises:
        UsageError: there is no page, or it has a section that nothing generates.
    """
    if not claim.template.is_file():
        raise UsageError(f"there is no page {claim.template} to fill in")
    findings = [evaluate(claim, rows, item) for item in claim.inequalities]
    sections = {
        "verdict": verdict_section(claim, rows, findings),
        "inequalities": inequality_table(findings),
        "commands": command_table(claim),
        **{f"table {name}": result_table(claim, rows, arms) for name, arms in claim.tables.items()},
        **{f"figure {name}": figure_section(claim, name) for name in claim.figures},
    }

    def fill(match: re.Match) -> str:
        if match[2] not in sections:
            raise UsageError(f"{claim.template}: unknown section {match[2]!r}, expected one of {', '.join(sections)}")
        return f"{match[1]}{sections[match[2]]}\n{match[3]}"

    return SECTION.sub(fill, claim.template.read_text())


def verdict_section(claim: Claim, rows: Rows, findings: list[Finding]) -> str:
    num_hold = sum(finding.status == "holds" for finding in findings)
    num_runs = sum(key in rows for key in claim.required())
    return (
        f"**Verdict: {verdict(findings)}.** {num_hold} of {len(findings)} inequalities hold; "
        f"{num_runs} of {len(claim.required())} runs are stored."
    )


def markdown_table(header: list[str], body: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *body]
    literal = [[cell.replace("|", "\\|").replace("](", "]\\(") for cell in line] for line in lines]  # no links
    return "\n".join("| " + " | ".join(line) + " |" for line in literal)


def inequality_table(findings: list[Finding]) -> str:
    body = []
    for finding in findings:
        low, high = finding.margin_interval
        margin = "–" if math.isnan(finding.margin) else f"{number(finding.margin)} [{number(low)}, {number(high)}]"
        sides = ["–" if side is None else str(side) for side in (finding.left, finding.right)]
        body.append([finding.sentence, *sides, margin, f"**{finding.status}**"])
    return markdown_table(["Inequality", "Left arm", "Right arm", "Margin", "Status"], body)


def result_table(claim: Claim, rows: Rows, arms: list[str]) -> str:
    counts = {name: sum(arm == name for arm, _ in rows) for name in arms}
    if not any(counts.values()):
        return "*No runs of this table are stored.*"
    names = set(arms)
    columns = [
        (m, at) for m, at in claim.columns if any(m in x["metrics"].get(at, {}) for (arm, _), x in rows.items() if arm in names)
    ]
    header = ["Arm", *(f"{claim.metrics[m]['label']}, {claim.steps(at)}" for m, at in columns), "Seeds"]
    body = []
    for name in filter(counts.get, arms):
        cells = []
        for metric, at in columns:
            value = estimate(claim, rows, name, metric, at)
            partial = f" (n={len(value.scores)})" if value and len(value.scores) < counts[name] else ""
            cells.append("–" if value is None else f"{value}{partial}")
        body.append([claim.arms[name].label, *cells, str(counts[name])])
    return markdown_table(header, body)


def command_table(claim: Claim) -> str:
    body = [[f"`{arm.name}`", str(arm.seeds), f"`{claim.command(arm.name, 1)}`"] for arm in claim.arms.values()]
    return markdown_table(["Arm", "Seeds", "Command (seed 1)"], body)


def figure_section(claim: Claim, name: str) -> str:
    if not (claim.folder / f"{name}.png").exists():
        return "*No data for this figure are stored.*"
    return f"![{claim.figures[name]['caption']}]({name}.png)\n\n*{claim.figures[name]['caption']}*"


def write_page(claim: Claim, rows: Rows) -> None:
    """Draws the figures and writes index.md."""
    from explore_gym.scripts.figures import draw_figures

    draw_figures(claim, rows)
    page = render_page(claim, rows)
    (claim.folder / "index.md").write_text(page)
