from pathlib import Path

import pytest

import explore_gym
from explore_gym.scripts import figures
from explore_gym.scripts.claims import estimate, read_claim, read_results

PAPERS = Path(explore_gym.__file__).parent / "docs" / "papers"
CURVES = [
    (path.parent.name, name)
    for path in sorted(PAPERS.glob("*/claim.json"))
    for name, spec in read_claim(path.parent.name, PAPERS).figures.items()
    if spec["kind"] == "curves"
]


@pytest.mark.parametrize(("slug", "name"), CURVES)
def test_lines_can_be_told_apart_and_all_labels_be_read(slug, name, monkeypatch):
    monkeypatch.setattr(figures, "BAND_REPLICAS", 2)
    claim = read_claim(slug, PAPERS)
    figure = figures.draw_curves(claim, read_results(claim), claim.figures[name])
    if figure is None:
        pytest.skip("no run of its arms is stored")
    figure.canvas.draw()
    (legend,) = figure.legends
    inside, box = figure.bbox, legend.get_window_extent()
    assert box.x0 >= inside.x0 and box.x1 <= inside.x1 and box.y0 >= inside.y0
    assert all(axes.get_window_extent().y0 > box.y1 for axes in figure.axes)
    lines = [(line.get_color(), line.get_linestyle()) for line in legend.get_lines()]
    assert len(set(lines)) == len(lines) == len(legend.get_texts())


INTERVALS = [
    (path.parent.name, name)
    for path in sorted(PAPERS.glob("*/claim.json"))
    for name, spec in read_claim(path.parent.name, PAPERS).figures.items()
    if spec["kind"] == "intervals"
]


@pytest.mark.parametrize(("slug", "name"), INTERVALS)
def test_final_values_are_those_of_the_table(slug, name):
    claim = read_claim(slug, PAPERS)
    rows, spec = read_results(claim), claim.figures[name]
    figure = figures.draw_intervals(claim, rows, spec)
    if figure is None:
        pytest.skip("no run of its arms is stored")
    arms = [arm for arm in spec["arms"] if any(arm == stored for stored, _ in rows)]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [claim.arms[arm].label for arm in arms]
    for axes, metric in zip(figure.axes, spec["metrics"]):
        found = {arm: estimate(claim, rows, arm, metric, spec["at"]) for arm in arms}
        points = {line.get_ydata()[0]: line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"}
        assert points == {place: found[arm].value for place, arm in enumerate(arms) if found[arm]}
