import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from explore_gym.agents.common import UsageError
from explore_gym.scripts import reproduce
from explore_gym.scripts.claims import ROOT, evaluate, order_correlation, read_claim, read_results, result_table, verdict

FAKE_AGENT = Path(__file__).with_name("fake_agent.py")
PAGE = """# Fake

<!-- generated: verdict -->
<!-- end -->

By hand.

<!-- generated: inequalities -->
<!-- end -->
<!-- generated: table results -->
<!-- end -->
<!-- generated: figure curves -->
<!-- end -->
<!-- generated: figure maps -->
<!-- end -->
<!-- generated: figure scatter -->
<!-- end -->
<!-- generated: commands -->
<!-- end -->
"""


class Paper:
    """A claim in a temporary folder: arm a scores 0.5 + seed / 100 + steps / 1e6, arm b 0.3 + the same."""

    def __init__(self, tmp_path):
        self.papers, self.runs = tmp_path / "papers", tmp_path / "runs"
        self.folder = self.papers / "fake"
        self.folder.mkdir(parents=True)
        (self.folder / "index.md").write_text(PAGE)
        self.claim = {
            "title": "A fake",
            "script": str(FAKE_AGENT),
            "flags": {"total-timesteps": 2000},
            "seeds": 3,
            "checkpoints": {"early": 950, "final": 2000},
            "arms": {
                "a": {"label": "A", "flags": {"level": 0.5}},
                "b": {"label": "B", "flags": {"level": 0.3}},
                "c_more": {"label": "C", "flags": {"level": 0.1}, "optional": True},
            },
            "metrics": {"score": {"label": "score"}},
            "curves": ["score"],
            "snapshot": "arrays.npz",
            "inequalities": [
                {"metric": "score", "at": "early", "left": "a", "relation": ">=", "factor": 1.3, "right": "b"},
                {"metric": "score", "at": "final", "left": "b", "relation": "<=", "offset": -0.1, "right": "a"},
            ],
            "columns": [["score", "early"], ["score", "final"]],
            "tables": {"results": ["a", "b", "c_more"]},
            "figures": {
                "curves": {"kind": "curves", "metrics": ["score"], "arms": ["a", "b"], "caption": "Curves."},
                "maps": {
                    "kind": "maps", "values": "counts", "label": "visits", "cells": "ids", "width": 3,
                    "arms": ["a", "b"], "caption": "Maps.",
                },
                "scatter": {
                    "kind": "scatter", "x": "counts", "y": "bonuses", "xlabel": "N", "ylabel": "b", "slope": -1,
                    "arms": ["a", "b"], "caption": "Cloud.",
                },
            },
            "quick": {"seeds": 1, "flags": {"total-timesteps": 400}, "checkpoints": {"early": 200, "final": 400}},
        }  # fmt: skip
        self.write()

    def write(self):
        (self.folder / "claim.json").write_text(json.dumps(self.claim))

    def arguments(self, *more):
        return ["fake", "--papers-dir", str(self.papers), "--runs-dir", str(self.runs), "--jobs", "2", *more]

    def reproduce(self, *more):
        return reproduce.main(self.arguments(*more))

    def start(self, *more):
        command = [sys.executable, str(ROOT / "scripts" / "reproduce.py"), *self.arguments(*more)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def read(self):
        return read_claim("fake", self.papers)

    def rows(self):
        return read_results(self.read())

    def starts(self, arm, seed):
        return len((self.runs / "fake" / arm / str(seed) / "starts").read_text())


@pytest.fixture
def paper(tmp_path):
    return Paper(tmp_path)


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_runs_everything_once_and_writes_results_figures_and_page(paper, capsys):
    assert paper.reproduce("--jobs", "1") == 0
    output = capsys.readouterr().out
    assert output.splitlines()[-1] == "reproduced: 2 of 2 hold"
    order = [line.split(maxsplit=1)[1] for line in output.splitlines() if line.endswith(" started")]
    assert order == [f"{arm} seed {seed} started" for seed in (1, 2, 3) for arm in "ab"]

    row = paper.rows()["a", 2]
    # 950 steps are reached at the row of step 1000, and 2000 at the last one
    assert row["metrics"] == {"early": {"score": 0.521}, "final": {"score": 0.522}}
    assert row["command"] == f"python {FAKE_AGENT} --total-timesteps 2000 --level 0.5 --seed 2"
    assert row["curves"]["step"][:2] == [20, 40]
    assert row["curves"]["score"][:5] == [None, None, None, None, 0.5201]  # first logged at step 100
    assert row["seconds"] == 1.5
    assert row["versions"]["python"] == sys.version.split()[0]

    page = (paper.folder / "index.md").read_text()
    assert "**Verdict: reproduced.** 2 of 2 inequalities hold; 6 of 6 runs are stored." in page
    assert "By hand." in page
    assert "| score(A) ≥ 1.3 × score(B) at 950 steps | 0.521 [" in page
    assert "score(B) ≤ score(A) − 0.1 at 2k steps" in page
    for name in ("curves", "maps", "scatter"):
        assert f"({name}.png)" in page
        assert (paper.folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert (paper.folder / "a.npz").exists()

    results = paper.rows()
    assert paper.reproduce() == 0  # nothing is missing now
    assert paper.rows() == results
    assert paper.starts("a", 1) == 1
    assert (paper.folder / "index.md").read_text() == page


def test_check_recomputes_and_tells_by_its_exit_code(paper, capsys):
    assert paper.reproduce("--seeds", "1", "2") == 0
    assert paper.reproduce("--check") == 1  # seed 3 is missing
    output = capsys.readouterr().out
    assert "missing    2 of 6 runs: a 3, b 3" in output
    assert output.splitlines()[-1] == "incomplete: 0 of 2 hold"
    assert paper.reproduce() == 0
    assert paper.reproduce("--check") == 0
    paper.claim["inequalities"][0]["factor"] = 1.9
    paper.write()
    capsys.readouterr()
    assert paper.reproduce("--check") == 1
    first, second, last = capsys.readouterr().out.splitlines()
    assert first.startswith(
        "fails      score(A) ≥ 1.9 × score(B) at 950 steps: 0.521 [0.511, 0.531] against 0.321 [0.311, 0.331]"
    )
    assert second.startswith("holds")
    assert last == "partly reproduced: 1 of 2 hold"
    assert paper.reproduce("--page") == 0
    assert "**Verdict: partly reproduced.** 1 of 2" in (paper.folder / "index.md").read_text()


def test_margin_and_separate_intervals(paper):
    assert paper.reproduce() == 0
    claim, rows = paper.read(), paper.rows()
    finding = evaluate(claim, rows, claim.inequalities[1])
    assert finding.margin == pytest.approx(0.1)  # 0.522 - 0.1 - 0.322
    assert finding.margin_interval[0] < 0.1 < finding.margin_interval[1]
    # Lift b to 0.49: a is still above it, but the seeds' spread of 0.02 makes the intervals overlap.
    for (arm, _), row in rows.items():
        row["metrics"]["final"]["score"] += 0.19 * (arm == "b")
    touching = {"metric": "score", "at": "final", "left": "a", "relation": ">=", "right": "b"}
    paper.claim["inequalities"] = [touching, {**touching, "separate_intervals": True}]
    paper.write()
    findings = [evaluate(paper.read(), rows, item) for item in paper.read().inequalities]
    assert [finding.status for finding in findings] == ["holds", "fails"]
    assert verdict(findings) == "partly reproduced"
    assert verdict(findings[:1]) == "reproduced"
    assert verdict(findings[1:]) == "not reproduced"


def test_threshold_statistic_and_trend(paper):
    assert paper.reproduce() == 0
    rows = paper.rows()  # at 2k steps a has 0.512, 0.522, 0.532 and b 0.2 less
    rows["a", 3]["metrics"]["final"]["score"] = 0.0
    threshold = {"metric": "score", "at": "final", "left": "a", "relation": ">=", "offset": 0.5}
    trend = {"metric": "score", "at": "final", "left": ["a", "b"], "relation": "<=", "offset": -0.9}
    paper.claim["inequalities"] = [
        threshold,
        {**threshold, "statistic": "mean"},
        {**threshold, "statistic": "lowest"},
        trend,
        {**trend, "left": ["b", "a"]},
        {"metric": "score", "at": "final", "left": "a", "relation": ">=", "right": "b", "statistic": "mean"},
    ]
    paper.write()
    claim = paper.read()
    findings = [evaluate(claim, rows, item) for item in claim.inequalities]
    iqm_of_three = (0.0 + 0.512 + 0.522) / 3  # a quarter of three values, rounded down, is none: the mean
    values = [finding.left.value for finding in findings]
    assert values == pytest.approx([iqm_of_three, iqm_of_three, 0.0, -1.0, 1.0, iqm_of_three])
    assert [finding.status for finding in findings] == ["fails", "fails", "fails", "holds", "fails", "holds"]
    assert findings[2].margin == -0.5
    assert findings[2].left.interval == (0.0, 0.522)  # all three draws are seed 2 in one of 27
    assert findings[3].left.interval == (-1.0, 1.0)  # with zeros drawn often enough, a is below b
    assert findings[0].sentence == "score(A) ≥ 0.5 at 2k steps"
    assert findings[2].sentence == "lowest score(A) ≥ 0.5 at 2k steps"
    assert findings[3].sentence == "Spearman of score over (A, B) ≤ −0.9 at 2k steps"
    assert findings[5].sentence == "mean score(A) ≥ mean score(B) at 2k steps"
    assert findings[2].numbers == "0 [0, 0.522], margin -0.5 [-0.5, 0.022]"
    del rows["b", 1], rows["b", 2]
    assert [evaluate(claim, rows, item).status for item in claim.inequalities[2:5]] == ["fails", "incomplete", "incomplete"]
    del rows["b", 3]
    finding = evaluate(claim, rows, claim.inequalities[3])
    assert (finding.status, finding.numbers) == ("incomplete", "no runs of an arm")


def test_the_two_sides_may_have_statistics_of_their_own(paper):
    assert paper.reproduce() == 0
    rows = paper.rows()  # at 2k steps a has 0.512, 0.522, 0.532
    never_far_off = {"metric": "score", "at": "final", "left": "a", "relation": "<=", "right": "a", "statistic": "highest"}
    never_far_off["right_statistic"] = "iqm"
    paper.claim["inequalities"] = [{**never_far_off, "factor": 1.02}, {**never_far_off, "factor": 1.01}]
    paper.write()
    findings = [evaluate(paper.read(), rows, item) for item in paper.read().inequalities]
    assert [(x.left.value, x.right.value) for x in findings] == [(0.532, pytest.approx(0.522))] * 2
    assert [x.status for x in findings] == ["holds", "fails"]
    assert findings[0].left.interval == (0.512, 0.532)  # all three draws are seed 1 in one of 27
    assert findings[0].sentence == "highest score(A) ≤ 1.02 × score(A) at 2k steps"


def test_the_two_sides_may_stand_at_checkpoints_of_their_own(paper):
    assert paper.reproduce() == 0
    grows = {"metric": "score", "at": "final", "left": "a", "relation": ">=", "right": "a", "right_at": "early"}
    paper.claim["inequalities"] = [{**grows, "factor": 1.001}, {**grows, "relation": "<="}]
    paper.write()
    findings = [evaluate(paper.read(), paper.rows(), item) for item in paper.read().inequalities]
    assert [(x.left.value, x.right.value) for x in findings] == [(pytest.approx(0.522), pytest.approx(0.521))] * 2
    assert [x.status for x in findings] == ["holds", "fails"]
    assert findings[0].sentence == "score(A) ≥ 1.001 × score(A) at 2k steps against 950 steps"
    paper.claim["inequalities"][0]["right_at"] = "never"
    paper.write()
    with pytest.raises(UsageError, match="unknown checkpoint 'never', expected one of early, final"):
        paper.read()


def test_curves_over_steps_on_a_logarithmic_scale(paper):
    paper.claim["log_steps"] = True
    paper.claim["figures"]["curves"]["columns"] = 1
    paper.write()
    assert paper.reproduce() == 0
    steps = paper.rows()["a", 1]["curves"]["step"]
    assert (steps[0], steps[-1]) == (1, 2000)
    ratios = np.array(steps[-20:]) / steps[-21:-1]
    assert ratios == pytest.approx(2000 ** (1 / 100), abs=0.01)
    assert (paper.folder / "curves.png").exists()


def test_a_window_counts_episodes_where_rows_tell_how_many_ended():
    rows = [{"step": 10, "score": 9.0}, {"step": 20, "score": 1.0, "episodes": 1}, {"step": 30, "score": 0.0, "episodes": 4}]
    rows.append({"step": 40, "episodes": 0})  # nothing ended: no score
    assert reproduce.value_at(rows, "score", 40, 25) == 0.2  # one success in five episodes
    assert reproduce.value_at(rows, "score", 30, 0) == 0.0
    plain = [{"step": 10, "score": 1.0}, {"step": 20, "score": 3.0}]
    assert reproduce.value_at(plain, "score", 20, 20) == 2.0
    assert reproduce.value_at(rows, "score", 5, 0) is None


def test_a_table_has_the_columns_of_its_arms_and_large_numbers_in_full(paper):
    paper.claim["metrics"]["other"] = {"label": "other"}
    paper.claim["columns"].append(["other", "final"])
    paper.write()
    assert paper.reproduce() == 0
    claim, rows = paper.read(), paper.rows()
    assert "other" not in result_table(claim, rows, ["a", "b"])
    rows["b", 1]["metrics"]["final"]["other"] = 12345.6
    assert "other" not in result_table(claim, rows, ["a"])
    assert "| 12,346 [12,346, 12,346] (n=1) |" in result_table(claim, rows, ["a", "b"])


def test_order_correlation_is_spearman_s():
    x = np.array([[5.0, 4.0, 3.0, 2.0], [1.0, 3.0, 2.0, 4.0], [1.0, 1.0, 0.5, 0.5], [2.0, 2.0, 2.0, 2.0]])
    expected = [scipy.stats.spearmanr(row, range(4))[0] for row in x[:3]]
    assert order_correlation(x).tolist() == pytest.approx([*expected, 0.0])
    assert expected[:2] == pytest.approx([-1.0, 0.8])


def test_failed_run_is_reported_kept_aside_and_retried_on_request(paper, capsys):
    fuse = paper.folder / "fuse"
    paper.claim["arms"]["b"]["flags"]["fail-once"] = str(fuse)
    paper.write()
    assert paper.reproduce("--seeds", "1") == 1
    output = capsys.readouterr().out
    assert "b seed 1 failed with exit code 3" in output
    assert "    the fuse has blown" in output
    assert list(paper.rows()) == [("a", 1)]
    assert paper.reproduce("--seeds", "1") == 1
    assert "the fuse has blown" in capsys.readouterr().out
    assert paper.starts("b", 1) == 1
    assert paper.reproduce("--seeds", "1", "--retry-failed") == 0
    assert set(paper.rows()) == {("a", 1), ("b", 1)}


def test_kill_9_loses_nothing(paper):
    """The killed program's runs go on; the next start neither doubles nor loses them."""
    go = paper.folder / "go"
    for arm in "ab":
        paper.claim["arms"][arm]["flags"]["wait"] = str(go)
    paper.write()
    first = paper.start("--seeds", "1")
    metrics = [paper.runs / "fake" / arm / "1" / "metrics.jsonl" for arm in "ab"]
    wait_for(lambda: all(path.exists() and len(path.read_text().splitlines()) == 19 for path in metrics))
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    second = paper.start("--seeds", "1")
    output = [second.stdout.readline(), second.stdout.readline()]
    assert all("goes on in a process from before" in line for line in output)
    go.touch()
    second.communicate(timeout=300)
    assert second.returncode == 0
    assert {key: row["metrics"]["final"] for key, row in paper.rows().items()} == {
        ("a", 1): {"score": 0.512},
        ("b", 1): {"score": 0.312},
    }
    assert [paper.starts(arm, 1) for arm in "ab"] == [1, 1]


def test_ctrl_c_stops_the_runs_and_the_next_start_resumes_them(paper):
    go = paper.folder / "go"
    paper.claim["arms"]["a"]["flags"]["wait"] = str(go)
    paper.write()
    first = paper.start("--arms", "a", "--seeds", "1")
    metrics = paper.runs / "fake" / "a" / "1" / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and len(metrics.read_text().splitlines()) == 19)
    first.send_signal(signal.SIGINT)
    output, _ = first.communicate(timeout=300)
    assert first.returncode == 130
    assert "stopped" in output
    go.touch()
    assert paper.reproduce("--arms", "a", "--seeds", "1") == 0
    assert paper.starts("a", 1) == 2
    assert len(metrics.read_text().splitlines()) == 20  # 19 of the first start, one of the second


def test_quick_is_stored_apart(paper, capsys):
    assert paper.reproduce("--quick") == 0
    assert not paper.read().results_file.exists()
    assert (paper.folder / "index.md").read_text() == PAGE
    assert "2 of 2 runs are stored" in (paper.runs / "fake-quick" / "index.md").read_text()
    assert paper.reproduce("--quick", "--check") == 0
    assert paper.reproduce("--check") == 1
    rows = read_results(read_claim("fake", paper.papers, paper.runs / "fake-quick"))
    assert rows["a", 1]["metrics"]["final"] == {"score": 0.5104}


def test_optional_arms_run_only_when_named(paper):
    assert paper.reproduce("--arms", "c*", "--seeds", "2") == 0
    assert set(paper.rows()) == {("c_more", 2)}
    assert ("c_more", 2) not in paper.read().required()


def test_results_of_another_copy_are_merged(paper, tmp_path):
    assert paper.reproduce("--seeds", "1") == 0
    elsewhere = tmp_path / "elsewhere"
    paper.folder.rename(elsewhere)
    paper.folder.mkdir()
    for name in ("claim.json", "index.md"):
        (paper.folder / name).write_text((elsewhere / name).read_text())
    assert paper.reproduce("--seeds", "2", "--arms", "a") == 0
    assert paper.reproduce("--merge", str(elsewhere)) == 0
    assert set(paper.rows()) == {("a", 2), ("a", 1), ("b", 1)}
    assert (paper.folder / "b.npz").exists()
    assert paper.reproduce("--merge", str(elsewhere)) == 0
    assert len(paper.rows()) == 3


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--arms", "d"], "no arm 'd', expected one of a, b, c_more"),
        (["--seeds", "4"], "seeds of fake run from 1 to 3, got 4"),
        (["--jobs", "0"], "jobs must be at least 1, got 0"),
        (["--merge", "/nowhere"], "there is no /nowhere/results.jsonl"),
    ],
)
def test_bad_request_is_one_line(paper, capsys, more, message):
    assert paper.reproduce(*more) == 2
    assert message in capsys.readouterr().err


def test_unknown_claim(paper):
    with pytest.raises(UsageError, match=r"no claim 'nope' in .*; there is fake"):
        read_claim("nope", paper.papers)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("metric", "skill", "unknown metric 'skill', expected one of score"),
        ("at", "noon", "unknown checkpoint 'noon', expected one of early, final"),
        ("left", "c_more", "unknown required arm 'c_more', expected one of a, b"),
        ("relation", "<", "unknown relation '<'"),
        ("statistic", "median", "unknown statistic 'median', expected one of iqm, mean, lowest, highest"),
        ("left", ["a", "c_more"], "unknown required arm 'c_more', expected one of a, b"),
        ("by", 2, "unexpected keyword argument 'by'"),
    ],
)
def test_claim_that_contradicts_itself(paper, key, value, message):
    paper.claim["inequalities"][0][key] = value
    paper.write()
    with pytest.raises(UsageError, match=message):
        paper.read()


def test_damaged_results(paper):
    assert paper.reproduce("--seeds", "1") == 0
    path = paper.read().results_file
    whole = path.read_text()
    first = whole.splitlines()[0]
    for damaged, message in [
        (whole[:-9], ":2 is damaged: delete this line"),
        (first[:50] + "\n" + whole, ":1 is damaged"),
        (whole + first + "\n", ":3 is a second row for arm"),
        (whole.replace('"seed":1', '"seed":9', 1), ":1: the claim has no arm '.' with seed 9"),
        (whole.replace("--seed 1", "--seed 1 --lr 3", 1), ":1 was made by"),
        (whole.replace("0.511", "NaN", 1), ":.: metrics must be finite numbers"),
    ]:
        path.write_text(damaged)
        with pytest.raises(UsageError, match=message):
            paper.rows()


def test_run_directory_of_other_arguments_is_not_stored(paper, capsys):
    assert paper.reproduce("--seeds", "1") == 0
    paper.read().results_file.unlink()
    paper.claim["arms"]["a"]["flags"]["level"] = 0.9
    paper.write()
    assert paper.reproduce("--seeds", "1") == 1
    assert "was made with level 0.5, the claim says 0.9: delete it" in capsys.readouterr().out
    assert set(paper.rows()) == {("b", 1)}


def test_page_with_an_unknown_section(paper, capsys):
    (paper.folder / "index.md").write_text(PAGE.replace("table results", "table tennis"))
    assert paper.reproduce("--page") == 2
    assert "unknown section 'table tennis', expected one of verdict, inequalities" in capsys.readouterr().err
