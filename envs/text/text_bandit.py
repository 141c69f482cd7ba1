"""TextBandit: play a bandit that is told in words, one short text about the arms and one answer per pull.

Observation: text `1 3 0.53` for each arm, a line each: its number, pulls so far, mean of their rewards (0.00 without one); or
             tokens.
Action:      text `<think>..</think><answer>2</answer>`, or `2` alone: the arm to pull; or its characters one by one.
Reward:      raw: the pull's reward. regret: (mean of the arm - lowest mean) / (highest - lowest). teacher: 1 if UCB would
             pull the arm, otherwise 0. An answer that names no arm pulls none and earns 0.
Terminates:  after `pulls` (50) responses.  Truncates: never.
Source:      Chen et al., 2025, arXiv:2509.24923 (section 3); families and prompts after EVOLvE (Nie et al., 2024,
             arXiv:2410.06238).

The observation is a sufficient statistic: each turn's prompt stands alone, and what was said before is gone. Means are shown
with 2 decimals, and the teacher decides by what is shown: the arms not pulled yet first, then the largest mean + exploration
* sqrt(ln t / N), t the number of this pull; all that attain the largest are right. The n-th reward of an arm is a function of
the task's index, whatever else is pulled. Verifying a first response gives the reward "regret".

Demonstrations are those of `demonstrator`: "ucb" (the teacher), "sub_ucb" (ln(N + 1) instead of ln t), "greedy", "uniform",
or "base", a model before training: greedy in 40 % of the pulls, otherwise uniform. A rationale repeats each arm's line and
adds UCB's bonus and index. `demonstrations` gives one turn of each task, uniform over the pulls of an episode that the
teacher plays.

The info has what the agent must not see: `means`, `arm` (-1: none), `regret`, `cumulative_regret`, `optimal`, whether the pull
was `greedy` (largest mean shown) or the `teacher`'s, and `pulled`, the reward drawn.
"""

import hashlib
import math

import numpy as np

from explore_gym.envs.bandits.checks import check_integer, check_number
from explore_gym.envs.text.task import Reply, Task, final_answer
from explore_gym.envs.text.token_env import environments
from explore_gym.envs.text.tokenizers import CharTokenizer

FAMILIES = ("bernoulli", "gaussian")
REWARDS = ("raw", "regret", "teacher")
DEMONSTRATORS = ("ucb", "sub_ucb", "greedy", "uniform", "base")
BASE_GREEDY = 0.4  # share of greedy pulls of the demonstrator "base"
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
TIE = 1e-9
LINE, RATIONALE = 18, 36  # characters of an arm's line, and of its line in a rationale


class TextBandit(Task):
    """Bandits in words, for meta-learning.

    Args:
        family: "bernoulli" (means uniform in [0, 1]) or "gaussian" (means N(0, 1), rewards of deviation 1).
        arms: 2 to 20.
        pulls: in an episode, 1 to 10_000.
        reward: "raw", "regret" or "teacher".
        exploration: factor of UCB's bonus, 0 to 100.
        demonstrator: "ucb", "sub_ucb", "greedy", "uniform" or "base".
        think: whether demonstrations have a rationale.
        split: "train", "test" or "all".
        num_tasks: the tasks are those of the indices below this number; None: below 2**31.
        seed: draws the tasks.

    Raises:
        ValueError: an argument is outside the ranges above.
    """

    fresh = True

    def __init__(
        self,
        family="bernoulli",
        arms=5,
        pulls=50,
        reward="raw",
        exploration=0.5,
        demonstrator="ucb",
        think=True,
        split="train",
        num_tasks=None,
        seed=0,
    ):
        super().__init__(split, num_tasks, seed)
        for name, value, known in (
            ("family", family, FAMILIES),
            ("reward", reward, REWARDS),
            ("demonstrator", demonstrator, DEMONSTRATORS),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        check_integer("arms", arms, 2, 20)
        check_integer("pulls", pulls, 1, 10_000)
        check_number("exploration", exploration, 0.0, 100.0)
        self.family, self.arms, self.turns, self.reward = family, arms, pulls, reward
        self.exploration, self.demonstrator, self.think = exploration, demonstrator, bool(think)
        self.memory_fields = {"counts": (np.int64, (arms,)), "sums": (np.float64, (arms,)), "cumulative_regret": np.float64}
        self.metrics = {
            "means": (float, (arms,)),
            "arm": int,
            "regret": float,
            "cumulative_regret": float,
            "optimal": bool,
            "greedy": bool,
            "teacher": bool,
            "pulled": float,
        }
        self.tokenizer = CharTokenizer("0123456789.- \nabcdefghijklmnopqrstuvwxyz", TAGS)
        self.prompt_tokens = LINE * arms
        self.response_tokens = RATIONALE * arms + 6 if think else 2
        self.max_prompt, self.max_response = max(1000, LINE * arms), max(1000, 2 * RATIONALE * arms)

    def sample(self, rng):
        """The arms' means."""
        means = rng.random(self.arms) if self.family == "bernoulli" else rng.standard_normal(self.arms)
        return tuple(means.tolist())

    def begin(self, index, memory):
        return self.tell(memory)

    def ask(self, instance):
        return self.tell(self.new_memory())

    def tell(self, memory):
        """The prompt of a turn: a line for each arm."""
        shown = zip(memory["counts"].tolist(), self.shown_means(memory))
        return "".join([f"{arm} {count} {mean:.2f}\n" for arm, (count, mean) in enumerate(shown, 1)])

    def shown_means(self, memory):
        """The means as shown, with 2 decimals."""
        sums = zip(memory["sums"].tolist(), memory["counts"].tolist())
        return [round(total / count, 2) + 0.0 if count else 0.0 for total, count in sums]

    def bonuses(self, memory, rule="ucb"):
        """The bonus of each arm, infinite of one not pulled yet."""
        counts = memory["counts"].tolist()
        turn = sum(counts) + 1
        heads = [turn if rule == "ucb" else count + 1 for count in counts]
        pairs = zip(heads, counts)
        return [self.exploration * math.sqrt(math.log(head) / count) if count else math.inf for head, count in pairs]

    def best(self, memory, rule="ucb"):
        """All arms that a rule allows: "ucb", "sub_ucb" or "greedy"."""
        means = self.shown_means(memory)
        if rule == "greedy":
            indices = means
        else:
            indices = [mean + bonus for mean, bonus in zip(means, self.bonuses(memory, rule))]
        highest = max(indices)
        return [arm for arm, index in enumerate(indices) if index >= highest - TIE]

    def draw(self, index, arm, count):
        """The reward of an arm's pull number `count`, a function of the task."""
        key = f"{self.seed} {index} {arm} {count}".encode()
        digest = hashlib.blake2b(key, digest_size=16).digest()
        u, v = ((int.from_bytes(part, "little") >> 11) * 2.0**-53 for part in (digest[:8], digest[8:]))
        mean = self.instance(index)[arm]
        if self.family == "bernoulli":
            return float(u < mean)
        return mean + math.sqrt(-2.0 * math.log(1.0 - u)) * math.cos(2.0 * math.pi * v)

    def arm_of(self, response):
        """The arm that a response names, None if it names none."""
        text = (final_answer(response) or "").strip()
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= 4 else 0
        return number - 1 if 1 <= number <= self.arms else None

    def check(self, instance, response):
        arm, low, high = self.arm_of(response), min(instance), max(instance)
        if arm is None:
            return 0.0
        return (instance[arm] - low) / (high - low) if high > low else 1.0

    def answer(self, instance):
        return f"<answer>{instance.index(max(instance)) + 1}</answer>" if self.think else str(instance.index(max(instance)) + 1)

    def pull(self, index, memory, arm):
        """Pull an arm: remembers and returns its reward."""
        reward = self.draw(index, arm, int(memory["counts"][arm]))
        memory["counts"][arm] += 1
        memory["sums"][arm] += reward
        return reward

    def respond(self, index, memory, response):
        memory["turn"] += 1
        means, arm = self.instance(index), self.arm_of(response)
        taught, greedy = self.best(memory), self.best(memory, "greedy")
        pulled = 0.0 if arm is None else self.pull(index, memory, arm)
        regret = max(means) - (min(means) if arm is None else means[arm])
        memory["cumulative_regret"] += regret
        earned = {"raw": pulled, "regret": self.check(means, response), "teacher": float(arm in taught)}
        metrics = {
            "success": regret == 0.0,
            "means": means,
            "arm": -1 if arm is None else arm,
            "regret": regret,
            "cumulative_regret": float(memory["cumulative_regret"]),
            "optimal": regret == 0.0,
            "greedy": arm in greedy,
            "teacher": arm in taught,
            "pulled": pulled,
        }
        done = bool(memory["turn"] == self.turns)
        return Reply("" if done else self.tell(memory), earned[self.reward], done, metrics)

    def demonstrate(self, index, rng, memory=None):
        memory = self.new_memory() if memory is None else memory
        rule = self.demonstrator
        if rule == "base":
            rule = "greedy" if rng.random() < BASE_GREEDY else "uniform"
        arms = list(range(self.arms)) if rule == "uniform" else self.best(memory, rule)
        arm = arms[rng.integers(len(arms))] + 1
        return f"<think>{self.rationale(memory)}</think><answer>{arm}</answer>" if self.think else str(arm)

    def rationale(self, memory):
        """Each arm's line with UCB's bonus and index; `new` for an arm not pulled yet."""
        lines = []
        for line, mean, bonus in zip(self.tell(memory).splitlines(), self.shown_means(memory), self.bonuses(memory)):
            lines.append(f"{line} new\n" if bonus == math.inf else f"{line} {bonus:.2f} {mean + bonus:.2f}\n")
        return "".join(lines)

    def moment(self, index, rng):
        """The memory at a pull of an episode that the teacher plays, uniform over its pulls."""
        memory = self.new_memory()
        for _ in range(rng.integers(self.turns)):
            arms = self.best(memory)
            self.pull(index, memory, arms[rng.integers(len(arms))])
        return memory

    def demonstrations(self, indices, rng):
        """Pairs (prompt, response), of each task one turn of an episode that the teacher plays, uniform over its pulls."""
        moments = [(index, self.moment(index, rng)) for index in np.asarray(indices).tolist()]
        return [(self.tell(memory), self.demonstrate(index, rng, memory)) for index, memory in moments]


TextBanditEnv, TextBanditEnvVector = environments(TextBandit)
