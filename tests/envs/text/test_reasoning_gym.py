import pytest

from explore_gym.envs.text.reasoning_gym import ReasoningGym, ReasoningGymEnv

pytest.importorskip("reasoning_gym", reason="the extra reasoning isn't installed")


def test_a_dataset_is_a_task():
    task = ReasoningGym("chain_sum", config={"min_terms": 2, "max_terms": 2})
    assert task.prompt(3) == ReasoningGym("chain_sum", config={"min_terms": 2, "max_terms": 2}).prompt(3)
    assert len({task.prompt(i) for i in range(50)}) > 40
    assert all(task.verify(i, task.solve(i)) == 1.0 for i in range(20))
    assert task.verify(0, f"<answer>{task.solve(0)}</answer>") == 1.0
    assert task.verify(0, "no") < 1.0
    assert task.verify(0, "<answer>1</answer><answer>2</answer>") == 0.0


def test_neighbouring_seeds_and_the_splits_share_no_entries():
    long = {"min_terms": 6, "max_terms": 6, "min_digits": 3, "max_digits": 3}
    prompts = [
        {ReasoningGym(config=long, seed=seed, split=split).prompt(i) for i in range(30)}
        for seed, split in ((42, "train"), (43, "train"), (42, "test"))
    ]
    assert not prompts[0] & prompts[1] and not prompts[0] & prompts[2]


@pytest.mark.parametrize("level", ["tokens", "strings"])
def test_environment(level):
    env = ReasoningGymEnv(level=level, dataset="spell_backward")
    obs, _ = env.reset(seed=0)
    assert env.observation_space.contains(obs)
    if level == "strings":
        _, reward, terminated, *_ = env.step(env.task.solve(env.reset(options={"index": 1})[1]["index"]))
        assert (reward, terminated) == (1.0, True)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="spelling_bee"):
        ReasoningGym("spelling_bee")
    with pytest.raises(ValueError, match="chain_sum refuses config="):
        ReasoningGym("chain_sum", config={"min_termz": 2})
    with pytest.raises(ValueError, match="config must leave seed and size to the environment"):
        ReasoningGym(config={"seed": 1})
