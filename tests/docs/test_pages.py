"""The generated sections of README.md and docs/ are what docs/make_pages.py makes of code and data."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from explore_gym.envs import ENVIRONMENTS, KERNEL_NAMES, NAMESPACE
from explore_gym.scripts import throughput
from explore_gym.scripts.report import Result, write_tables
from explore_gym.scripts.suites import SUITES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def make_pages():
    spec = importlib.util.spec_from_file_location("make_pages", ROOT / "docs" / "make_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_is_up_to_date(make_pages):
    pages = make_pages.pages()
    assert {ROOT / "README.md", *(make_pages.page_of(name) for name in ENVIRONMENTS)} <= set(pages)
    stale = [page.name for page in pages if page.read_text() != make_pages.render(page)]
    assert stale == [], "run python docs/make_pages.py"


def test_check_reports_a_page_that_was_edited(make_pages, tmp_path, monkeypatch, capsys):
    page = make_pages.page_of("RiverSwim-v0")
    edited = page.read_text().replace("Discrete(2): 0 left", "Discrete(2): 0 right")
    assert edited != page.read_text()
    copy = tmp_path / "river_swim.md"
    copy.write_text(edited)
    monkeypatch.setattr(make_pages, "ROOT", tmp_path)
    monkeypatch.setattr(make_pages, "pages", lambda: [copy])
    monkeypatch.setattr(make_pages, "id_of", lambda page: "RiverSwim-v0")
    monkeypatch.setattr("sys.argv", ["make_pages.py", "--check"])
    with pytest.raises(SystemExit) as stop:
        make_pages.main()
    assert stop.value.code
    assert "-| **Action** | Discrete(2): 0 right" in capsys.readouterr().out
    assert copy.read_text() == edited
    monkeypatch.setattr("sys.argv", ["make_pages.py"])
    with pytest.raises(SystemExit) as stop:
        make_pages.main()
    assert not stop.value.code
    assert copy.read_text() == page.read_text()


def test_a_docstring_becomes_a_table(make_pages):
    docstring = """Docking: bring a craft to rest.

    Some words
    on the task.

    Reward:      1 on docking, |x| < 0.05;
                 otherwise 0.
    Terminates:  on docking.  Truncates: after 200 steps.
    """
    title, rows, paragraphs = make_pages.split_docstring(docstring)
    assert title == "Docking: bring a craft to rest."
    assert paragraphs == ["Some words on the task."]
    assert rows == [
        ["Reward", "1 on docking, |x| < 0.05; otherwise 0."],
        ["Terminates", "on docking."],
        ["Truncates", "after 200 steps."],
    ]
    assert make_pages.linked("|x| < 1") == r"\|x\| &lt; 1"
    assert make_pages.linked("see arXiv:1703.07608") == "see [arXiv:1703.07608](https://arxiv.org/abs/1703.07608)"


def test_stored_suites_show_the_score_and_command_of_each_agent(make_pages, tmp_path, monkeypatch):
    monkeypatch.setattr(make_pages, "THROUGHPUT", tmp_path / "throughput.json")
    assert make_pages.section_suites(ROOT / "docs" / "benchmark.md") == ""
    results = [
        Result("mine", "python mine.py", task, s, task.optimal * s, [], 1.0) for task in SUITES["tabular"] for s in (0, 1)
    ]
    (tmp_path / "tabular").mkdir()
    write_tables(tmp_path / "tabular", results)
    text = make_pages.section_suites(ROOT / "docs" / "benchmark.md")
    assert text.startswith("### The suite tabular")
    assert text.count("(n=2)") == 1 + len(SUITES["tabular"])
    assert "0.50 [0.00, 1.00] (n=2)" in text  # a return of 0 and the optimum, where random has 0
    assert "| `python mine.py` |" in text
    assert "![tabular: iqm](benchmarks/tabular/iqm.png)" in text


def test_flags_have_their_defaults_choices_and_comments(make_pages):
    text = make_pages.section_flags(ROOT / "docs" / "agents" / "ppo.md")
    assert "| `--num-steps` | `128` | per env and rollout |\n" in text
    assert "| `--autoreset-mode` | `SameStep` | SameStep, NextStep, Disabled |\n" in text
    assert r"| `--run-dir` | none | default: runs/&lt;agent>\_\_&lt;env>\_\_&lt;seed> |" in text


def test_the_interval_is_students(make_pages):
    # mean 4.5, standard deviation of 0..9 sqrt(55 / 6) = 3.0277, times 2.262 / sqrt(10)
    assert make_pages.interval(list(range(10))) == "4.5 ± 2.2"


def test_every_environment_has_scores_and_pictures(make_pages):
    settings = json.loads(make_pages.SCORES.read_text())["settings"]
    assert [(entry["id"], entry["kwargs"]) for entry in settings] == [
        (f"{NAMESPACE}/{name}", kwargs) for name, kwargs in make_pages.SETTINGS
    ]
    for name in KERNEL_NAMES:  # in the others there is nothing to see, and no token drawn at random is a response
        assert f"{NAMESPACE}/{name}" in [entry["id"] for entry in settings]
        for ending in ("gif", "png"):
            assert (ROOT / "docs" / "pictures" / f"{name}.{ending}").exists()


def test_stored_scores_agree_with_the_exact_ones(make_pages):
    """The random policy's exact score lies within five standard errors of the played one, and no score above the optimum."""
    for entry in json.loads(make_pages.SCORES.read_text())["settings"]:
        means, exact = np.array(entry["random"]["return"]), entry["exact"]
        error = means.std(ddof=1) / np.sqrt(len(means))
        assert len(means) == make_pages.NUM_SEEDS
        if "optimal" in exact:
            assert means.mean() <= np.mean(exact["optimal"])
        if "random" in exact:
            assert abs(means.mean() - exact["random"]) <= 5 * error, entry


def test_speed_sections_show_the_stored_figures(make_pages, tmp_path, monkeypatch):
    readme, page = ROOT / "README.md", ROOT / "docs" / "benchmarks.md"
    monkeypatch.setattr(make_pages, "THROUGHPUT", tmp_path / "throughput.json")
    assert "No figures are stored yet" in make_pages.section_speed(readme)
    report = throughput.Report(make_pages.THROUGHPUT, throughput.Args(rounds=3))
    id = f"{NAMESPACE}/FourRooms-v0"
    report.add("ids", id=id, num_envs=1, **throughput.spread("steps_per_second", [100_000.0, 250_000.0, 300_000.0]))
    report.add("ids", id=id, num_envs=1024, **throughput.spread("steps_per_second", [2e6, 4e6, 5e6]))
    report.add(
        "compare", id=id, num_envs=1024, peer="Peer", peer_num_envs=64, goal=30, **throughput.ratios([(80.0, 2.0), (90.0, 2.0)])
    )
    report.add("compare", id=id, num_envs=1024, peer="Absent", goal=None, missing="No module named 'absent'")
    two = {"kwargs": {"size": 13}, "num_envs": 1024, "agents": 2, "goal": 1e6}
    report.add("agents", id=id, **two, **throughput.spread("steps_per_second", [1e6, 2e6, 3e6]))
    assert f"| `{id}` | 250 | 4,000 |" in make_pages.section_speed(readme)
    text = make_pages.section_throughput(page)
    assert f"| `{id}` | 250 | 4,000 |" in text
    assert f"| `{id}` | Peer | 1,024 : 64 | 85 | 2 | 42.50 | 40.00 to 45.00 |" in text
    assert f"| `{id}` | `size=13` | 1,024 | 2 | 2,000,000 | 1,000,000 to 3,000,000 |" in text
    assert f"| `{id}` | Absent | – | – | – | not measured: No module named 'absent' | – |" in text
    assert "median of 3 rounds" in text
    assert "## Training" not in text
