"""A run that is stopped and resumed, beside one that isn't."""

import json

import pytest

from explore_gym.agents import common

TIMES = ("time", "sps", "tokens_per_second")


class Interrupted(Exception):
    pass


def interrupted(agent, arguments, tmp_path, stop=2, **changed):
    """Metrics and summary, without times, of a whole run of an agent and of one that was stopped after `stop` and resumed."""
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    agent.train(arguments(run_dir=str(whole), **changed))
    log = common.Run.log

    def log_and_stop(run, step, metrics):
        log(run, step, metrics)
        if step == stop:
            run.save()
            raise Interrupted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common.Run, "log", log_and_stop)
        with pytest.raises(Interrupted):
            agent.train(arguments(run_dir=str(halves), **changed))
    agent.train(arguments(run_dir=str(halves), resume=True, **changed))
    for folder in (whole, halves):
        rows = [*common.read_metrics(folder / "metrics.jsonl"), json.loads((folder / "summary.json").read_text())]
        yield [{key: x for key, x in row.items() if key not in TIMES} for row in rows]
