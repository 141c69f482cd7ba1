"""Every stored claim: its results are whole, and its page says what they say."""

from pathlib import Path

import pytest

from explore_gym.scripts.claims import evaluate, read_claim, read_results, render_page, verdict

PAPERS = Path(__file__).parents[2] / "docs" / "papers"
SLUGS = sorted(path.parent.name for path in PAPERS.glob("*/claim.json"))
# Claims whose runs aren't all done; their pages say so
GOING_ON = {"toolrl", "when_greedy_wins"}


def test_there_are_claims():
    assert "rdd" in SLUGS


@pytest.fixture(params=SLUGS)
def claim(request):
    return read_claim(request.param, PAPERS)


def test_all_runs_are_stored_and_every_inequality_can_be_evaluated(claim):
    rows = read_results(claim)
    missing = [key for key in claim.required() if key not in rows]
    findings = [evaluate(claim, rows, item) for item in claim.inequalities]
    if claim.slug in GOING_ON:
        assert missing, "all runs are done: take it off the list"
        assert verdict(findings) == "incomplete"
    else:
        assert missing == []
        assert {finding.status for finding in findings} <= {"holds", "fails"}


def test_page_is_what_the_data_say(claim):
    page = (claim.folder / "index.md").read_text()
    assert "<!-- generated: verdict -->" in page
    assert "<!-- generated: inequalities -->" in page
    assert page == render_page(claim, read_results(claim))


def test_quick_version_is_a_smaller_claim_stored_elsewhere(claim, tmp_path):
    quick = read_claim(claim.slug, PAPERS, tmp_path)
    assert quick.folder == tmp_path
    assert quick.inequalities == claim.inequalities
    assert len(quick.required()) < len(claim.required())
    for name, arm in quick.arms.items():
        assert arm.flags["total-timesteps"] < claim.arms[name].flags["total-timesteps"]
