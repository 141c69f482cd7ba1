import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from interruption import interrupted

from explore_gym.agents import common
from explore_gym.agents import hrl_novelty_recsys as hrl
from explore_gym.envs.recommender import policies
from explore_gym.scripts.play import TrainedPolicy

WORLD = dict(topics=5, items_per_topic=3, dimension=4, liked=1, hidden=1, sessions=4, session_steps=6, days=20)
TOPICS = json.dumps({**WORLD, "actions": "topics"})
SIZES = dict(num_envs=6, num_steps=12, period=3, hidden=8, manager_batch=16, replay_size=64, eval_episodes=24)


def arguments(**changed):
    given = dict(env="Explore/NoveltyRec-v0", env_kwargs=TOPICS, device="cpu", quiet=True)
    return hrl.Args(**{**given, **SIZES, **changed})


class Player:
    """An agent whose scores and goals tell memories apart, and what it needs to play rollouts."""

    def __init__(self, **changed):
        torch.manual_seed(0)
        self.args = arguments(**changed)
        kwargs = json.loads(self.args.env_kwargs)
        self.envs = common.TorchVectorEnv(common.make_vec(self.args.env, self.args.num_envs, kwargs, self.args.autoreset_mode))
        self.agent = hrl.Agent(self.envs, self.args)
        torch.nn.init.orthogonal_(self.agent.actor[2].weight)
        if not self.args.flat:
            torch.nn.init.orthogonal_(self.agent.manager[2].weight)
        self.lanes = hrl.Lanes(self.agent, self.args.num_envs)
        self.agent.observe(self.lanes, self.envs.reset(seed=1))

    def rollout(self):
        return hrl.rollout(self.agent, self.envs, self.lanes, self.args)


@pytest.mark.parametrize("actions", ["topics", "items"])
def test_novelties_and_items_are_those_of_the_environment(actions):
    player = Player(env_kwargs=json.dumps({**WORLD, "actions": actions}))
    agent, envs = player.agent, player.envs
    assert envs.num_actions == (5 if actions == "topics" else 15)
    seen = []
    for _ in range(40):
        action = torch.randint(envs.num_actions, (6,))
        lane = torch.arange(6)
        novelty, item = agent.novelties(envs.obs)[lane, action], agent.candidates(envs.obs)[lane, action]
        info = envs.step(action)[4]["reached"]
        assert item.tolist() == info["slate"][:, 0].tolist()
        assert novelty.tolist() == pytest.approx(info["novelty"].tolist(), abs=1e-6)
        seen += novelty.tolist()
    assert np.ptp(seen) > 0.3


def test_diversity_is_the_mean_distance_to_the_topics_of_the_session():
    player = Player(num_envs=1)
    agent, envs = player.agent, player.envs
    session = []
    for topic in [0, 0, 3, 1, 0, 2, 4, 1, 0, 0]:
        item = agent.candidates(envs.obs)[0, topic]
        distances = [1 - agent.cosines[item, other].item() for other in session]
        expected = np.mean(distances) if session else 0.0
        assert agent.diversities(envs.obs, torch.tensor([topic])).item() == pytest.approx(expected, abs=1e-4)
        session.append(topic)
        if envs.step(torch.tensor([topic]))[0][0, agent.parts["scalars"]][hrl.FIRST] == 1:
            session = []


def made_up():
    """Three slates of one lane: a click on something new, the session's last, no click on something known, another click."""
    column = lambda *x: torch.tensor(x).unsqueeze(1)
    return dict(
        clicks=column(1.0, 0.0, 1.0), novelty=column(0.8, 0.2, 0.5), diversity=column(0.0, 0.3, 0.6),
        goal=column(0.6, 0.4, 0.5, 0.9), session_end=column(True, False, False),
    )  # fmt: skip


def test_rewards_by_hand():
    weights = dict(alpha=0.5, beta=0.2, kappa=0.1, lambda_goal=2.0)
    own, summed = hrl.rewards(made_up(), arguments(**weights))
    assert summed[:, 0].tolist() == pytest.approx([1 + 0.5 * 0.8, 0.1, 1 + 0.5 * 0.5 + 0.1])
    distances = [0.2**2, 0.2**2, 0.0]
    diversity = [0.0, 0.2 * 0.3, 0.2 * 0.6]
    expected = [s + d - 2 * x for s, d, x in zip(summed[:, 0].tolist(), diversity, distances)]
    assert own[:, 0].tolist() == pytest.approx(expected)
    own, _ = hrl.rewards(made_up(), arguments(arm="flat", **weights))  # the same but for the goal, which it lacks
    assert own[:, 0].tolist() == pytest.approx([s + d for s, d in zip(summed[:, 0].tolist(), diversity)])
    own, _ = hrl.rewards(made_up(), arguments(arm="accuracy", **weights))
    assert own[:, 0].tolist() == [1, 0, 1]


def test_novelty_that_is_not_accepted_pays_nothing():
    b = made_up()
    with_more = {**b, "novelty": b["novelty"] + torch.tensor([[0.0], [0.5], [0.0]])}
    args = arguments(arm="flat", alpha=3.0)
    assert torch.equal(hrl.rewards(b, args)[0], hrl.rewards(with_more, args)[0])


def test_a_session_as_numbers():
    sums = torch.tensor([[5.0, 3.0, 2.0, 1.5], [1.0, 0.0, 0.0, 0.0]])  # slates, clicks, novelty, accepted novelty
    summary = hrl.summarise(sums, torch.tensor([0.3, 0.1]), torch.tensor([0.4, 0.2]))
    assert summary[0].tolist() == pytest.approx([0.5, 0.6, 0.4, 0.75, 0.5, 0.3, 0.4])
    assert summary[1].tolist() == pytest.approx([1 / 6, 0, 0, 0, 0, 0.1, 0.2])


def test_intent_losses_by_hand():
    class Heads:
        def extract(self, short, long):
            return torch.tensor([[0.5], [0.25], [0.9]]), torch.tensor([[[0.0, 0.0]], [[1.0, 0.0]], [[0.0, 2.0]]])

    b = {"ever": torch.tensor([[[0.0, 0.0]], [[2.0, 1.0]], [[4.0, 3.0]], [[5.0, 3.0]]])}  # novelty shown, accepted
    b |= {"novelty": torch.tensor([[0.8], [0.0], [0.5]]), "clicks": torch.tensor([[1.0], [1.0], [0.0]])}
    static, session = hrl.intent_loss(Heads(), None, None, b)
    assert static.item() == pytest.approx(((0.25 - 0.5) ** 2 + (0.9 - 0.75) ** 2) / 2)  # nothing was shown at first
    sigmoid = 1 / (1 + np.exp(-1.0))  # of 0 + 2 * 0.5
    assert session.item() == pytest.approx(((0.8 * 0.5 - 0.8) ** 2 + 0 + (0.5 * sigmoid) ** 2) / 3)


@pytest.mark.parametrize("arm", ["hrl", "no_static", "no_manager", "flat"])
def test_learning_sees_the_memories_and_scores_of_acting(arm):
    player = Player(arm=arm)
    for _ in range(3):
        b = player.rollout()
    assert b["new"].any()
    assert b["starts"].any()
    assert b["sessions"].max() > 1
    shorts, longs = hrl.unroll(player.agent, b)
    assert torch.allclose(shorts, b["short"], atol=1e-6)
    assert torch.allclose(longs, b["long"], atol=1e-6)
    assert b["short"].std() > 0.01
    assert (b["long"].std() > 0.01) == (arm in ("hrl", "no_manager"))


def test_static_memory_is_made_anew_from_the_summaries_after_an_update():
    player = Player()
    for _ in range(3):
        b = player.rollout()
    with torch.no_grad():
        for parameter in player.agent.long_cell.parameters():
            parameter.mul_(1.5)
    _, longs = hrl.unroll(player.agent, b)
    lane = int(b["sessions"].argmax())
    x = torch.zeros(1, 8)
    for k in range(int(b["sessions"][lane])):
        x = player.agent.long_cell(b["summaries"][lane : lane + 1, k], x)
    assert torch.allclose(longs[0, lane], x[0], atol=1e-6)
    assert (longs[0, lane] - b["long"][0, lane]).abs().max() > 1e-3


def test_gradients_reach_the_first_session_of_the_user():
    player = Player()
    for _ in range(3):
        b = player.rollout()
    lane = int(b["sessions"].argmax())
    assert b["sessions"][lane] > 1
    b["summaries"].requires_grad_()
    _, longs = hrl.unroll(player.agent, b)
    grad = torch.autograd.grad(longs[0, lane, 0], b["summaries"])[0].abs().sum(-1) > 0
    assert grad[lane].tolist() == [k < b["sessions"][lane] for k in range(4)]
    assert grad.sum() == b["sessions"][lane]  # and no other lane's


@pytest.mark.parametrize("arm", ["hrl", "flat"])
def test_short_memory_starts_anew_with_the_session_and_the_flat_one_with_the_user(arm):
    player = Player(arm=arm)
    b = {key: torch.cat([x, y]) for (key, x), y in zip(player.rollout().items(), player.rollout().values())}
    agent, borders = player.agent, 0
    for t, lane in b["new"].nonzero().tolist():
        fresh = agent.short_cell(agent.seen(b["obs"][t, lane : lane + 1]), torch.zeros(1, 8))
        same = torch.allclose(b["short"][t, lane], fresh[0], atol=1e-6)
        assert same == (arm == "hrl")
        borders += 1
    assert borders > 3
    for t, lane in b["starts"].nonzero().tolist():
        fresh = agent.short_cell(agent.seen(b["obs"][t, lane : lane + 1]), torch.zeros(1, 8))
        assert torch.allclose(b["short"][t, lane], fresh[0], atol=1e-6)
        assert b["long"][t, lane].abs().max() == 0


def test_summaries_hold_what_each_session_was():
    """Sums over sessions, from the environment's infos, are those behind the summaries."""
    player = Player(num_envs=1)
    agent, lanes, envs = player.agent, player.lanes, player.envs
    slates = clicks = novelty = accepted = number = 0.0
    for _ in range(60):
        action, _ = agent.choose(lanes, envs.obs)
        obs, reward, terminated, _, info = envs.step(action)
        agent.observe(lanes, obs)
        reached = info["reached"]
        slates, clicks, novelty = slates + 1, clicks + reward.item(), novelty + reached["novelty"][0]
        accepted += reached["accepted_novelty"][0]
        if reached["session_end"][0]:
            if not terminated:
                expected = [slates / (slates + 5), clicks / slates, novelty / slates, accepted / max(novelty, 0.1)]
                summary = lanes.summaries[0, lanes.sessions[0] - 1]
                assert summary[:4].tolist() == pytest.approx(expected, abs=1e-5)
                number += 1
            slates = clicks = novelty = accepted = 0.0
    assert number > 5


def test_manager_decides_where_a_session_starts_and_every_period():
    player = Player(manager_noise=0.3)
    b = player.rollout()
    since = torch.zeros(6)
    for t in range(13):
        expected = b["new"][t] | b["starts"][t] | (since == 3)
        assert b["decision"][t].tolist() == expected.tolist()
        since = torch.where(expected, 0.0, since) + 1
        if t:
            kept = ~expected
            assert torch.equal(b["goal"][t][kept], b["goal"][t - 1][kept])
            assert (b["goal"][t][expected] != b["goal"][t - 1][expected]).all()
    assert Player(arm="no_manager", goal=0.3).rollout()["goal"].unique().tolist() == pytest.approx([0.3])


def test_manager_transitions_by_hand():
    """Two slates, then a border of sessions; three slates that end with the user; one that isn't over in the rollout."""
    player = Player(num_envs=1, num_steps=7, alpha=0.5, kappa=0.1, manager_gamma=0.5)
    b = player.rollout()
    column = lambda *x: torch.tensor(x).unsqueeze(1)
    b |= dict(
        decision=column(True, False, True, False, False, True, False, False),
        new=column(False, False, True, False, False, False, False, False),
        starts=column(False, False, False, False, False, True, False, False),
        clicks=column(1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0), novelty=column(0.4, 0.2, 0.9, 0.9, 0.6, 0.5, 0.5),
        done=column(False, False, False, False, True, False, False),
    )  # fmt: skip
    b["session_end"] = b["new"][1:] | b["starts"][1:]
    m = hrl.manager_transitions(player.agent, b, player.args)
    first = (1 + 0.2 + 0.1) + 0.5 * (1 + 0.1)
    second = 0.1 + 0.5 * 0.1 + 0.25 * (1 + 0.3)
    assert m["rewards"].tolist() == pytest.approx([first, second])
    assert m["discounts"].tolist() == [0.25, 0.0]
    assert m["played"].tolist() == [[True, True, False], [True, True, True]]
    assert m["goals"].tolist() == b["goal"][[0, 2], 0].tolist()
    assert torch.equal(m["actions"][0, :2], b["actions"][:2, 0])
    assert torch.equal(m["actions"][1], b["actions"][2:5, 0])
    assert torch.equal(m["obs"][1], b["obs"][2:5, 0])
    features = player.agent.features(b["short"], b["long"])[:, 0]
    assert torch.equal(m["features"], features[[0, 2]])
    assert torch.equal(m["next_features"], features[[2, 5]])


def test_relabelling_finds_the_goal_of_the_worker_s_actions():
    """The worker's scores are 40 (g - 1/2) times novelty: the newest items speak for g = 1, the best known ones for g = 0."""
    player = Player(num_envs=3, relabel_samples=2, manager_noise=1.0)
    agent, obs = player.agent, player.envs.obs
    torch.nn.init.zeros_(agent.actor[2].weight)
    agent.goal_weight.data.fill_(40.0)
    novelties = agent.novelties(obs)
    actions = torch.stack([novelties[0].argmax(), novelties[1].argmin(), novelties[2].argmax()])
    m = dict(
        obs=obs.unsqueeze(1).repeat(1, 3, 1), shorts=torch.zeros(3, 3, 8), longs=torch.zeros(3, 8),
        actions=actions.unsqueeze(1).repeat(1, 3), played=torch.tensor([[True] * 3, [True] * 3, [True, False, False]]),
        goals=torch.tensor([0.5, 0.5, 0.5]),
    )  # fmt: skip
    m["actions"][2, 1:] = novelties[2].argmin()  # not played, so that it doesn't count
    noise = torch.tensor([[-5.0, 5.0]]).repeat(3, 1)  # candidates 0 and 1 beside the original 0.5
    assert hrl.relabel(agent, m, noise, player.args).tolist() == [1.0, 0.0, 1.0]
    shown = novelties[torch.arange(3), actions].clamp(0.1, 0.9)  # candidates lie around what was shown, too
    around = hrl.relabel(agent, {**m, "goals": shown}, noise / 5e3, player.args)
    assert around[0].item() == pytest.approx(min(max(shown[0].item(), novelties[0].max().item() + 1e-3), 1.0), abs=1e-5)


def test_relabelling_keeps_the_original_goal_where_it_is_the_best():
    """Of two items that differ in novelty one each was chosen: most likely with equal scores, that is with g = 1/2."""
    player = Player(num_envs=1, relabel_samples=2, period=2)
    agent, obs = player.agent, player.envs.obs
    torch.nn.init.zeros_(agent.actor[2].weight)
    agent.goal_weight.data.fill_(40.0)
    novelties = agent.novelties(obs)[0]
    m = dict(
        obs=obs.unsqueeze(1).repeat(1, 2, 1), shorts=torch.zeros(1, 2, 8), longs=torch.zeros(1, 8),
        actions=torch.stack([novelties.argmax(), novelties.argmin()]).unsqueeze(0), played=torch.ones(1, 2, dtype=torch.bool),
        goals=torch.tensor([0.5]),
    )  # fmt: skip
    assert hrl.relabel(agent, m, torch.tensor([[-50.0, 50.0]]), player.args).tolist() == [0.5]


def test_critics_loss_by_hand():
    manager = lambda features: features[:, :1]  # logits: 0 gives the goal 1/2
    delayed = lambda features, goals: torch.stack([10 * goals, 8 + 0 * goals])
    online = lambda features, goals: torch.stack([goals, 2 * goals])
    m = dict(features=torch.zeros(2, 3), next_features=torch.zeros(2, 3), goals=torch.tensor([0.5, 1.0]))
    m |= dict(rewards=torch.tensor([1.0, 2.0]), discounts=torch.tensor([0.9, 0.0]))
    args = arguments(manager_noise=0.1)
    loss = hrl.critic_loss(online, delayed, manager, m, torch.tensor([1.0, 1.0]), args)
    targets = [1 + 0.9 * 6, 2.0]  # the lesser of 10 * 0.6 and 8; the user has left
    expected = np.mean([(0.5 - targets[0]) ** 2, (1 - targets[1]) ** 2, (1 - targets[0]) ** 2, (2 - targets[1]) ** 2])
    assert loss.item() == pytest.approx(expected)
    loss = hrl.critic_loss(online, delayed, manager, m, torch.tensor([9.0, 0.0]), args)  # noise of at most 0.25
    targets = [1 + 0.9 * 7.5, 2.0]
    expected = np.mean([(0.5 - targets[0]) ** 2, (1 - targets[1]) ** 2, (1 - targets[0]) ** 2, (2 - targets[1]) ** 2])
    assert loss.item() == pytest.approx(expected)


@pytest.mark.parametrize(("arm", "cut"), [("hrl", True), ("flat", True), ("flat", False)])
def test_worker_loss_by_a_slow_reference(arm, cut):
    player = Player(arm=arm, cut_sessions=cut, gamma=0.8, gae_lambda=1.0, intent_coef=0.3, ent_coef=0.02, vf_coef=0.7)
    player.rollout()
    b, agent = player.rollout(), player.agent
    loss, metrics = hrl.worker_loss(agent, b, player.args)
    rows = [agent(b["short"][t], b["long"][t], b["goal"][t], b["obs"][t], agent.novelties(b["obs"][t])) for t in range(13)]
    values = torch.stack([value for _, value in rows]).tolist()
    own = hrl.rewards(b, player.args)[0]
    ends = b["session_end"] if cut else b["done"]
    assert ends.any()
    returns = np.zeros((12, 6))
    for t in range(12):
        for lane in range(6):
            for later in range(t, 12):
                returns[t, lane] += 0.8 ** (later - t) * own[later, lane].item()
                if ends[later, lane]:
                    break
            else:
                returns[t, lane] += 0.8 ** (12 - t) * values[12][lane]
    advantages = returns - np.array(values[:12])
    advantages = (advantages - advantages.mean()) / advantages.std(ddof=1)
    policies = [torch.distributions.Categorical(logits=scores) for scores, _ in rows[:12]]
    logprobs = np.array([policy.log_prob(action).tolist() for policy, action in zip(policies, b["actions"])])
    entropy = np.mean([policy.entropy().mean().item() for policy in policies])
    policy_loss, value_loss = -(logprobs * advantages).mean(), ((np.array(values[:12]) - returns) ** 2).mean()
    assert metrics["loss/policy"].item() == pytest.approx(policy_loss, abs=1e-5)
    assert metrics["loss/value"].item() == pytest.approx(value_loss, rel=1e-4)
    expected = policy_loss + 0.7 * value_loss - 0.02 * entropy
    if arm == "hrl":
        static, session = hrl.intent_loss(agent, b["short"][:12], b["long"][:12], b)
        expected += 0.3 * (static + session).item()
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_the_manager_s_goal_sends_no_gradient_into_the_memories_and_heads():
    player = Player()
    b = player.rollout()
    shorts, longs = hrl.unroll(player.agent, b)
    player.agent.decide(player.agent.features(shorts, longs)).sum().backward()
    moved = {name.split(".")[0] for name, x in player.agent.named_parameters() if x.grad is not None}
    assert moved == {"manager"}


def test_the_manager_learns_the_goal_that_pays():
    player = Player(manager_updates=4, manager_lr=3e-3, relabel=False)
    manager = hrl.Manager(player.agent, player.envs.obs_dim, player.args)
    player.args.manager_noise = 0.5
    for _ in range(25):
        b = player.rollout()
        goal = b["goal"][:-1]
        paid = torch.where(goal > 0.7, 1.0, 0.0)
        metrics = manager.update({**b, "clicks": paid, "novelty": torch.zeros_like(paid)})
    assert "manager_value" in metrics
    assert player.agent.decide(manager.replay.sample(64)["features"]).mean() > 0.7


def test_correlations_and_areas_by_hand():
    labels = np.array([True, False, True, False])
    assert hrl.auc(np.array([0.9, 0.1, 0.4, 0.6]), labels) == 0.75  # 3 of 4 pairs are in order
    assert hrl.auc(np.array([0.5, 0.5, 0.5, 0.5]), labels) == 0.5
    assert hrl.auc(np.array([0.1, 0.2]), np.array([True, True])) == 0.5
    assert hrl.spearman(np.array([1.0, 5.0, 2.0]), np.array([0.1, 0.9, 0.2])) == pytest.approx(1)
    assert hrl.spearman(np.array([1.0, 2.0, 3.0]), np.array([3.0, 1.0, 2.0])) == pytest.approx(-0.5)
    assert hrl.spearman(np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 2.0])) == 0


def test_linear_probe_is_fitted_on_its_rows_alone():
    rng = np.random.default_rng(0)
    memories = rng.standard_normal((4000, 3))
    labels, fitted = memories[:, 1] > 0.2, np.arange(4000) < 2000
    scores = hrl.linear_probe(memories, labels, fitted)
    assert hrl.auc(scores[~fitted], labels[~fitted]) > 0.98
    spoilt = np.where(fitted, labels, ~labels)
    assert np.array_equal(hrl.linear_probe(memories, spoilt, fitted), scores)


def test_user_metrics_by_hand():
    """Two users: the first with two sessions, whose last one counts for the intents, the second with one."""
    rows = dict(
        user=np.array([0, 1, 0, 1, 0]), session=np.array([0, 0, 1, 0, 1]),
        mood=np.array([True, False, True, False, False]), z=np.array([0.9, 0.2, 0.3, 0.2, 0.3]),
        p=np.array([0.0, 0.5, 0.9, 0.1, 0.4]), goal=np.array([0.0, 0.5, 0.4, 0.1, 0.9]),
    )  # fmt: skip
    ends = dict(clicks=np.array([3.0, 2.0]), returns=np.array([1.0, 0.0]), discovered=np.array([1.0, 0.0]))
    ends |= dict(novelty_seeking=np.array([0.8, 0.4]), accepted=np.array([1.0, 0.5]), clicked=np.array([3.0, 2.0]))
    metrics = hrl.user_metrics(ends, rows)
    assert metrics["eval/clicks"] == 2.5
    assert metrics["eval/sessions"] == 1.5
    assert metrics["eval/slates"] == 2.5
    assert metrics["eval/discovered"] == 0.5
    assert metrics["eval/accepted_novelty"] == pytest.approx(0.3)
    assert metrics["eval/static_spearman"] == pytest.approx(1)
    assert metrics["eval/propensity_auc"] == 1.0  # 0.9 above 0.5, 0.1 and 0.4
    assert metrics["eval/goal_auc"] == pytest.approx(1 / 3)


def test_scripted_arms_are_the_recommenders_of_the_environment():
    kwargs = {**WORLD, "actions": "topics", "reveal": ["intent"]}
    envs = gym.make_vec("Explore/NoveltyRec-v0", num_envs=8, autoreset_mode="SameStep", **kwargs)
    wrapped = common.TorchVectorEnv(envs)
    constant, oracle = policies.ConstantNovelty(envs.unwrapped, 0.9), policies.Oracle(envs.unwrapped)
    obs, different = wrapped.reset(seed=0), 0
    acts = {arm: hrl.scripted(arm, wrapped, 0.9) for arm in hrl.SCRIPTED[:3]}
    for _ in range(15):
        expected = {"constant": constant.act(obs.numpy()), "oracle": oracle.act(obs.numpy())}
        expected["halfway"] = np.where(np.arange(8) % 2 == 1, expected["constant"], expected["oracle"])
        for arm, act in acts.items():
            assert act(obs).tolist() == expected[arm].tolist()
        different += (expected["constant"] != expected["oracle"]).sum()
        obs = wrapped.step(torch.from_numpy(expected["halfway"]))[0]
    assert different > 5


@pytest.mark.parametrize("arm", ["halfway", "oracle_taste"])
def test_a_scripted_arm_is_evaluated_and_learns_nothing(tmp_path, arm):
    run = hrl.train(arguments(arm=arm, run_dir=str(tmp_path), total_timesteps=1))
    rows = common.read_metrics(tmp_path / "metrics.jsonl")
    assert len(rows) == 1
    assert 0 < rows[0]["eval/clicks"] < 24
    assert "eval/goal_auc" not in rows[0]
    assert "loss/policy" not in rows[0]
    assert run.step == 72


@pytest.mark.parametrize("arm", ["hrl", "flat"])
def test_a_saved_policy_acts_as_the_agent(tmp_path, arm):
    run = hrl.train(arguments(arm=arm, run_dir=str(tmp_path), total_timesteps=144))
    envs = run.make_envs(4)
    agent = hrl.Agent(envs, run.args)
    agent.load_state_dict(common.read_checkpoint(tmp_path / "checkpoint.pt")["state/agent"])
    policy, obs = common.load_policy(tmp_path), envs.reset(seed=0)
    borders = 0
    for t in range(60):
        torch.manual_seed(t)
        action = agent.act(obs)
        torch.manual_seed(t)
        assert policy(obs.numpy(), envs.starts.numpy(), envs.reward.numpy()).tolist() == action.tolist()
        borders += int(agent.acting[0].starts.sum())
        assert torch.equal(agent.acting[0].starts, envs.starts)
        obs = envs.step(action)[0]
    assert borders > 4
    env = gym.make(run.args.env, **json.loads(run.args.env_kwargs))
    player = TrainedPolicy(env, tmp_path)
    obs, _ = env.reset(seed=0)
    for _ in range(5):
        action = player(obs, True, 0.0)
        assert env.action_space.contains(action)
        obs = env.step(action)[0]


@pytest.mark.parametrize("changed", [dict(arm="hrl", autoreset_mode="Disabled"), dict(arm="no_manager"), dict(arm="flat")])
def test_resumed_run_has_the_same_numbers(tmp_path, changed):
    whole, halves = interrupted(hrl, arguments, tmp_path, stop=144, total_timesteps=288, **changed)
    assert len(whole) == 5
    assert ("loss/manager_critic" in whole[-1]) == (changed["arm"] == "hrl")
    assert whole[-1]["eval/clicks"] > 0
    assert whole == halves


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(autoreset_mode="NextStep"), "autoreset_mode must be SameStep or Disabled"),
        (dict(goal=1.5), r"goal must lie in \[0.0, 1.0\], got 1.5"),
        (dict(num_steps=3), "num_steps must be above period = 3, got 3"),
        (dict(manager_batch=0), "manager_batch must be at least 1, got 0"),
        (dict(manager_noise=-0.1), "manager_noise must be at least 0, got -0.1"),
    ],
)
def test_bad_arguments_are_named(changed, message):
    with pytest.raises(common.UsageError, match=message):
        arguments(**changed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(env="Explore/FourRooms-v0", env_kwargs="{}"), "env must be NoveltyRec with slate=1"),
        (dict(env_kwargs=json.dumps({**WORLD, "reveal": ["intent"]})), r"reveal=\[\]"),
        (dict(env_kwargs=json.dumps({**WORLD, "slate": 2})), "the action space must be Discrete"),
        (dict(env_kwargs=json.dumps({**WORLD, "max_episode_steps": 9})), "max_episode_steps must be None.*got 9"),
    ],
)
def test_environments_that_do_not_fit_are_refused(tmp_path, changed, message):
    with pytest.raises(common.UsageError, match=message):
        hrl.train(arguments(run_dir=str(tmp_path), **changed))


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["hrl", "flat"])
def test_learns_what_users_like(tmp_path, arm):
    """Random topics have about 29 clicks from a user, the best constant novelty about 64."""
    changed = dict(num_envs=128, num_steps=16, period=4, hidden=32, manager_batch=64, env_kwargs="{}", eval_episodes=300)
    args = arguments(env="Explore/NoveltyRec-Topics-v0", arm=arm, run_dir=str(tmp_path), total_timesteps=150_000, **changed)
    hrl.train(args)
    assert common.read_metrics(tmp_path / "metrics.jsonl")[-1]["eval/clicks"] > 45
