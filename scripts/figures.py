"""The figures of a paper's page: learning curves and final values with intervals, scatter plots, maps of one seed's arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from explore_gym.agents.common.statistics import bootstrap_iqm, interval, iqm
from explore_gym.scripts.claims import Claim, Rows, estimate

COLOURS = ("#7f7f7f", "#1f77b4", "#2ca02c", "#d62728", "#ff9d5c", "#111111", "#9467bd", "#8c564b", "#17becf", "#e377c2")
CHARACTER, HANDLE = 0.075, 0.55  # inches of the legend: a character of a label, a line with the space around it
BAND_REPLICAS = 1000  # per point of a curve; the table's intervals use more


def draw_figures(claim: Claim, rows: Rows) -> None:
    """Draws <figure>.png in the claim's folder for every figure with data; removes it where the data are gone."""
    draw = {"curves": draw_curves, "intervals": draw_intervals, "scatter": draw_scatter, "maps": draw_maps}
    for name, spec in claim.figures.items():
        figure = draw[spec["kind"]](claim, rows, spec)
        path = claim.folder / f"{name}.png"
        if figure is None:
            path.unlink(missing_ok=True)
        else:
            # no software version inside, so that the same data give the same file
            figure.savefig(path, dpi=130, metadata={"Software": None})


def colour(claim: Claim, spec: dict, arm: str) -> str:
    """An arm's colour: the same in all of the claim's figures if there are enough, otherwise different ones in each figure."""
    arms = list(claim.arms) if len(claim.arms) <= len(COLOURS) else spec["arms"]
    return COLOURS[arms.index(arm) % len(COLOURS)]


def panels(num_panels: int, columns: int, width: float, height: float, **shared: bool) -> tuple[Figure, list]:
    """A figure with at least num_panels axes, `columns` in a row; what is left over is invisible."""
    num_rows = -(-num_panels // columns)
    figure = Figure(figsize=(width * columns, height * num_rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(num_rows, columns, squeeze=False, **shared).flat)
    for left_over in axes[num_panels:]:
        left_over.set_visible(False)
    return figure, axes[:num_panels]


def draw_curves(claim: Claim, rows: Rows, spec: dict) -> Figure | None:
    """One panel per metric: IQM over the stored seeds against environment steps."""
    arms = [arm for arm in spec["arms"] if any(name == arm for name, _ in rows)]
    if not arms:
        return None
    figure, axes = panels(len(spec["metrics"]), spec.get("columns", len(spec["metrics"])), 5.0, 3.6)
    millions = claim.unit == "steps" and not claim.log_steps
    scale = 1e6 if millions else 1
    for panel, metric in zip(axes, spec["metrics"]):
        for arm in arms:
            steps, scores = stacked_curves(rows, arm, metric)
            if not len(steps):
                continue
            style = "--" if arm in spec.get("dashed", []) else "-"
            rng = np.random.default_rng(0)
            bands = [interval(bootstrap_iqm(column, rng, BAND_REPLICAS)) for column in scores.T]
            label, arm_colour = claim.arms[arm].label, colour(claim, spec, arm)
            panel.plot(steps / scale, iqm(scores, axis=0), style, color=arm_colour, label=label, linewidth=1.6)
            panel.fill_between(steps / scale, *np.transpose(bands), color=arm_colour, alpha=0.18, linewidth=0)
        panel.set_xlabel(("environment steps" if claim.unit == "steps" else claim.unit) + (" (millions)" if millions else ""))
        panel.set_ylabel(claim.metrics[metric]["label"])
        if claim.log_steps:
            panel.set_xscale("log")
        else:
            panel.set_xlim(left=0)
        panel.set_ylim(bottom=min(panel.dataLim.y0, 0.0))
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.25)
    handles, labels = axes[0].get_legend_handles_labels()
    fitting = int(figure.get_figwidth() / (HANDLE + CHARACTER * max(map(len, labels), default=0)))
    figure.legend(handles, labels, loc="outside lower center", ncols=max(fitting, 1), frameon=False, fontsize=9)
    return figure


def draw_intervals(claim: Claim, rows: Rows, spec: dict) -> Figure | None:
    """One panel per metric: IQM over the stored seeds at a checkpoint with its interval, a line for each arm."""
    arms = [arm for arm in spec["arms"] if any(name == arm for name, _ in rows)]
    if not arms:
        return None
    metrics = spec["metrics"]
    figure, axes = panels(len(metrics), spec.get("columns", len(metrics)), 3.6, 0.9 + 0.3 * len(arms), sharey=True)
    for panel, metric in zip(axes, metrics):
        for line, arm in enumerate(arms):
            if found := estimate(claim, rows, arm, metric, spec["at"]):
                panel.plot(found.interval, [line] * 2, color=colour(claim, spec, arm), linewidth=4, alpha=0.4)
                panel.plot(found.value, line, "o", color=colour(claim, spec, arm), markersize=5)
        panel.set_xlabel(claim.metrics[metric]["label"])
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="x", alpha=0.25)
    axes[0].set_yticks(range(len(arms)), [claim.arms[arm].label for arm in arms])
    axes[0].invert_yaxis()
    return figure


def stacked_curves(rows: Rows, arm: str, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps (points,) and values (seeds, points) where every stored seed of the arm has a value."""
    curves = [row["curves"] for (name, _), row in sorted(rows.items()) if name == arm]
    scores = np.array([curve[metric] for curve in curves], float)  # None, before a metric's first value, becomes nan
    whole = ~np.isnan(scores).any(0)
    return np.array(curves[0]["step"])[whole], scores[:, whole]


def snapshots(claim: Claim, arms: list[str]) -> dict[str, dict[str, np.ndarray]]:
    """Kept arrays by arm, of the arms that have some."""
    files: dict[str, Path] = {arm: claim.folder / f"{arm}.npz" for arm in arms}
    return {arm: dict(np.load(path)) for arm, path in files.items() if path.exists()}


def draw_scatter(claim: Claim, rows: Rows, spec: dict) -> Figure | None:
    """One panel per arm: array y against array x on logarithmic axes, with a line of the expected slope."""
    kept = snapshots(claim, spec["arms"])
    if not kept:
        return None
    figure, axes = panels(len(kept), min(len(kept), 5), 2.7, 2.7, sharex=True)
    for panel, (arm, arrays) in zip(axes, kept.items()):
        x, y = arrays[spec["x"]], arrays[spec["y"]]
        seen = (x > 0) & (y > 0)
        x, y = x[seen].astype(float), y[seen]
        panel.scatter(x, y, s=5, alpha=0.35, linewidths=0, color=colour(claim, spec, arm))
        ends = np.array([x.min(), x.max()])
        centre = np.log(y).mean() - spec["slope"] * np.log(x).mean()  # the line runs through the middle of the cloud
        panel.plot(ends, np.exp(centre) * ends ** spec["slope"], "--", color="0.3", linewidth=1)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_ylim(y.min() / 2, y.max() * 2)
        panel.set_title(claim.arms[arm].label, fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(spec["xlabel"], fontsize=10)
    figure.supylabel(spec["ylabel"], fontsize=10)
    return figure


def draw_maps(claim: Claim, rows: Rows, spec: dict) -> Figure | None:
    """One panel per arm: an array over grid cells, whose ids are row * width + column."""
    kept = snapshots(claim, spec["arms"])
    if not kept:
        return None
    highest = max(arrays[spec["values"]].max() for arrays in kept.values())
    figure, axes = panels(len(kept), 3, 2.9, 2.9)
    for panel, (arm, arrays) in zip(axes, kept.items()):
        grid = np.full((spec["width"], spec["width"]), np.nan)
        grid.flat[arrays[spec["cells"]]] = arrays[spec["values"]]
        panel.set_facecolor("0.35")  # walls
        panel.imshow(np.where(grid == 0, 1.0, np.nan), cmap="gray", vmin=0, vmax=1)
        image = panel.imshow(np.where(grid > 0, grid, np.nan), norm=LogNorm(1, max(highest, 2)), cmap="viridis")
        panel.set_title(claim.arms[arm].label, fontsize=10)
        panel.set_xticks([])
        panel.set_yticks([])
    figure.colorbar(image, ax=axes, shrink=0.6, label=spec["label"])
    return figure
