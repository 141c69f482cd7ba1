"""Pictures of a run as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from explore_gym.agents.common.run import read_metrics


def learning_curve(run_dirs: Sequence[Path], key: str, path: Path) -> None:
    """Draws metric `key` of each run against environment steps.

    Raises:
        ValueError: no run has the metric.
    """
    figure, axes = _figure(6.0, 4.0)
    for run_dir in map(Path, run_dirs):
        rows = [row for row in read_metrics(run_dir / "metrics.jsonl") if key in row]
        if rows:
            axes.plot([row["step"] for row in rows], [row[key] for row in rows], label=run_dir.name, linewidth=1)
    if not axes.lines:
        raise ValueError(f"no metric {key!r} in {', '.join(map(str, run_dirs))}")
    axes.set_xlabel("environment steps")
    axes.set_ylabel(key.replace("_", " "))
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)


def heat_map(values: np.ndarray, path: Path, title: str) -> None:
    """Draws a (rows, columns) array on a logarithmic colour scale, e.g. visit counts; what is not positive stays grey."""
    from matplotlib.colors import LogNorm

    figure, axes = _figure(5.5, 5.0)
    axes.set_facecolor("0.85")
    positive = values > 0
    if positive.any():
        low, high = values[positive].min(), values[positive].max()
        image = axes.imshow(np.ma.masked_where(~positive, values), norm=LogNorm(low, max(high, low * 1.01)))
        figure.colorbar(image, ax=axes)
    axes.set_title(title)
    axes.set_xticks([])
    axes.set_yticks([])
    figure.savefig(path, dpi=120)


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()
