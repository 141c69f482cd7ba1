"""RuleChain: apply a chain of learnt rules to a value, each step right, and say where it ends.

Observation: text `x0 r1 .. rL =`: a value and the names of 1 to 4 rules; or its tokens, see the guide to text environments.
Action:      text `x1 .. xL # xL`: the values on the way, then the answer; or its tokens one by one.
Reward:      1 if the answer is where the chain ends, otherwise 0.
Terminates:  with the response.  Truncates: never.
Source:      written for this suite, for the RLVR papers of 2025 that need a base model of graded skill.

Each of `rules` (32) rules is a permutation of `values` (96) values, drawn from the seed; nothing in the prompt tells it, so a
model must have learnt it. Rules are ranked from easy to hard: a demonstration applies rule r rightly with probability
sigmoid(linspace(4, -5.5, rules))[r], otherwise, with probability `decoy_mass`, it writes a decoy that is fixed for this rule
and value, or else a uniform value; then it goes on from what it wrote. A chain's rules lie within `spread` of a centre that
is uniform among the ranks, so that some prompts are easy and others next to hopeless. Guessing is right in one of 96 cases.

The answer is what follows the only `#`; what is written before it is not verified. `truth` says which steps of a response are
right, `success_rate` how often demonstrations of a prompt are. Demonstrations have one of several styles for the same chain.
"""

import numpy as np

from explore_gym.envs.bandits.checks import check_integer, check_number
from explore_gym.envs.text.task import Task
from explore_gym.envs.text.token_env import environments
from explore_gym.envs.text.tokenizers import WordTokenizer

TABLES = (0, 0, 1)  # of the streams that the seed starts, the one of the rules: tasks have (index, attempt)
STYLES = {  # x y of each step, and the rule's name
    "steps": "{y}",
    "pairs": "{x} {y} ;",
    "rules": "{x} {r} > {y} ;",
    "checks": "{x} {r} > {y} ; ? {x} {r} {y} ;",
    "chunks": "{y}",  # of every second step, and the last
    "answer": "",
}


class RuleChain(Task):
    """Chains of permutations that are learnt, not told.

    Args:
        values: number of values, 2 to 1000.
        rules: number of rules, 2 to 1000.
        min_length, max_length: rules in a chain, 1 to 32.
        spread: how far a chain's rules lie from its centre in rank, 0 to 1000.
        skill: of demonstrations: log-odds of a right step with the easiest and the hardest rule, or a probability per rule.
        decoy_mass: probability that a wrong step writes the decoy.
        style: of demonstrations, "steps", "pairs", "rules", "checks", "chunks" or "answer".
        split: "train", "test" or "all".
        num_tasks: the tasks are those of the indices below this number; None: below 2**31.
        seed: draws rules, decoys and tasks.

    Raises:
        ValueError: an argument is outside the ranges above.
    """

    def __init__(
        self,
        values=96,
        rules=32,
        min_length=1,
        max_length=4,
        spread=4,
        skill=(4.0, -5.5),
        decoy_mass=0.3,
        style="steps",
        split="train",
        num_tasks=None,
        seed=0,
    ):
        super().__init__(split, num_tasks, seed)
        check_integer("values", values, 2, 1000)
        check_integer("rules", rules, 2, 1000)
        check_integer("min_length", min_length, 1, 32)
        check_integer("max_length", max_length, min_length, 32)
        check_integer("spread", spread, 0, 1000)
        check_number("decoy_mass", decoy_mass, 0.0, 1.0)
        if style not in STYLES:
            raise ValueError(f"style must be one of {', '.join(STYLES)}, got {style!r}")
        self.values, self.rules, self.lengths, self.spread = values, rules, (min_length, max_length), spread
        self.skill, self.decoy_mass, self.style = step_probabilities(skill, rules), decoy_mass, style
        rng = np.random.default_rng((self.seed, *TABLES))
        self.table = np.array([rng.permutation(values) for _ in range(rules)])  # (rules, values): where a rule leads
        shifts = rng.integers(1, values, (rules, values))
        self.decoys = (self.table + shifts) % values  # (rules, values), never right
        self.names = [f"r{rule}" for rule in range(rules)]
        self.tokenizer = WordTokenizer([*map(str, range(values)), *self.names, "=", "#", ">", ";", "?"])
        self.prompt_tokens = max_length + 2
        self.response_tokens = len(self.render([0] * (max_length + 1), [0] * max_length).split())

    def sample(self, rng):
        """A value and the chain's rules."""
        centre, length = rng.integers(self.rules), rng.integers(self.lengths[0], self.lengths[1] + 1)
        rules = np.clip(centre + rng.integers(-self.spread, self.spread + 1, length), 0, self.rules - 1)
        return int(rng.integers(self.values)), tuple(rules.tolist())

    def ask(self, instance):
        x, rules = instance
        return f"{x} {' '.join([self.names[rule] for rule in rules])} ="

    def chain(self, instance):
        """The values on the way, from the first to the last."""
        values = [instance[0]]
        for rule in instance[1]:
            values.append(int(self.table[rule, values[-1]]))
        return values

    def check(self, instance, response):
        _, marked, answer = response.partition("#")
        return float(bool(marked) and answer.strip() == str(self.chain(instance)[-1]))

    def answer(self, instance):
        return self.render(self.chain(instance), instance[1])

    def solutions(self, index):
        """The one answer, in the style of the demonstrations."""
        return [self.solve(index)]

    def demonstrate(self, index, rng, memory=None):
        x, rules = self.instance(index)
        values = [x]
        for rule in rules:
            if rng.random() < self.skill[rule]:
                values.append(int(self.table[rule, values[-1]]))
            elif rng.random() < self.decoy_mass:
                values.append(int(self.decoys[rule, values[-1]]))
            else:
                values.append(int(rng.integers(self.values)))
        return self.render(values, rules)

    def render(self, values, rules):
        """A response in the style of the demonstrations."""
        step, last = STYLES[self.style], len(rules) - 1
        steps = [step.format(x=values[j], r=self.names[r], y=values[j + 1]) for j, r in enumerate(rules)]
        if self.style == "chunks":
            steps = [text for j, text in enumerate(steps) if j % 2 or j == last]
        return " ".join([*filter(None, steps), "#", str(values[-1])])

    def truth(self, index, response):
        """Which steps of a response are right: a bool for each value written, or for the last of each part that `;` ends."""
        written = response.partition("#")[0]
        parts = [part.split() for part in written.split(";")] if ";" in written else [[word] for word in written.split()]
        chain = self.chain(self.instance(index))[1:]
        if self.style == "chunks":
            chain = [value for j, value in enumerate(chain) if j % 2 or j == len(chain) - 1]
        if self.style == "checks":
            chain = [value for value in chain for _ in range(2)]
        stated = [part[-1] for part in parts if part]
        return [j < len(chain) and word == str(chain[j]) for j, word in enumerate(stated)]

    def success_rate(self, index):
        """The probability that a demonstration's answer is right, exactly."""
        x, rules = self.instance(index)
        belief = np.eye(self.values)[x]
        for rule in rules:
            wrong = (1.0 - self.skill[rule]) * (1.0 - self.decoy_mass) / self.values
            stepped = np.full(self.values, wrong)
            stepped[self.table[rule]] += self.skill[rule] * belief
            np.add.at(stepped, self.decoys[rule], (1.0 - self.skill[rule]) * self.decoy_mass * belief)
            belief = stepped
        return float(belief[self.chain((x, rules))[-1]])


def step_probabilities(skill, rules):
    """The probability of a right step with each rule, float64 (rules,)."""
    skill = np.asarray(skill, np.float64)
    if skill.shape == (rules,) and rules != 2:
        if not ((skill >= 0.0) & (skill <= 1.0)).all():
            raise ValueError(f"skill must hold probabilities in [0, 1], got {skill.tolist()}")
        return skill
    if skill.shape != (2,) or not np.isfinite(skill).all():
        raise ValueError(f"skill must be two log-odds or {rules} probabilities, got {skill.tolist()}")
    return 1.0 / (1.0 + np.exp(-np.linspace(skill[0], skill[1], rules)))


RuleChainEnv, RuleChainEnvVector = environments(RuleChain)
