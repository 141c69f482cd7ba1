"""ReasoningGym: any dataset of the package reasoning-gym as an environment, with its own prompts and verifiers.

Observation: text: the question of the dataset's entry; or its bytes.
Action:      text: the answer, or a thought and <answer>answer</answer>; or its bytes one by one.
Reward:      the dataset's own score of the answer, 0 to 1.
Terminates:  with the response.  Truncates: never.
Source:      reasoning-gym (Stojanovski et al., 2025, arXiv:2505.24760), an optional dependency.

Each task is drawn by a dataset of size one, whose seed comes from the stream of seed and index: neighbouring seeds share no
entries, as they would if entry i of seed s were drawn from s + i. Datasets of finite content may repeat entries.
"""

import string

from explore_gym.envs.bandits.checks import check_integer
from explore_gym.envs.text.task import Task, final_answer
from explore_gym.envs.text.token_env import environments
from explore_gym.envs.text.tokenizers import ByteTokenizer

CHARACTERS = "".join(map(chr, [*range(0xA0, 0x530), *range(0x2000, 0x2C00)]))  # beside ASCII: letters, signs, arrows, boxes


class ReasoningGym(Task):
    """A dataset of reasoning-gym.

    Args:
        dataset: name of the dataset, as in `reasoning_gym.create_dataset`.
        config: the dataset's own arguments, a dict of JSON values.
        max_question: bytes of a question, 1 to 100_000; longer ones, and those with rare characters, are drawn again.
        max_answer: bytes of an answer, 1 to 100_000.
        split: "train", "test" or "all".
        num_tasks: the tasks are those of the indices below this number; None: below 2**31.
        seed: draws the tasks.

    Raises:
        ValueError: the dataset is unknown or refuses its arguments, or an argument is outside the ranges above.
        ImportError: reasoning-gym isn't installed.
    """

    def __init__(
        self, dataset="chain_sum", config=None, max_question=2000, max_answer=500, split="train", num_tasks=None, seed=0
    ):
        super().__init__(split, num_tasks, seed)
        try:
            import reasoning_gym
        except ImportError as error:
            raise ImportError("ReasoningGym needs the package reasoning-gym: pip install reasoning-gym") from error
        check_integer("max_question", max_question, 1, 100_000)
        check_integer("max_answer", max_answer, 1, 100_000)
        self.create, self.dataset, self.config = reasoning_gym.create_dataset, dataset, dict(config or {})
        if reserved := {"seed", "size"} & self.config.keys():
            raise ValueError(f"config must leave seed and size to the environment, got {sorted(reserved)}")
        try:
            self.scorer = self.create(dataset, seed=0, size=1, **self.config)
        except (TypeError, AssertionError) as error:
            raise ValueError(f"{dataset} refuses config={self.config}: {error}") from error
        self.characters, self.known = CHARACTERS, {*CHARACTERS, *string.printable}
        self.tokenizer = ByteTokenizer()
        self.prompt_tokens, self.response_tokens = max_question, max_answer
        self.max_prompt, self.max_response = max_question, max_answer

    def sample(self, rng):
        """The dataset's entry as it is, None if its question or answer is too long."""
        entry = self.create(self.dataset, seed=int(rng.integers(2**31)), size=1, **self.config)[0]
        question = entry["question"]
        fits = len(question.encode()) <= self.prompt_tokens and set(question) <= self.known
        return entry if fits and len(str(entry["answer"] or "").encode()) <= self.response_tokens else None

    def key(self, instance):
        return instance["question"]

    def ask(self, instance):
        return instance["question"]

    def check(self, instance, response):
        """The dataset's score; 0 of what makes its verifier fail."""
        answer = final_answer(response)
        if answer is None or len(answer) > self.max_response:
            return 0.0
        try:
            score = float(self.scorer.score_answer(answer=answer.strip(), entry=instance))
        except Exception:  # a verifier of others, which some answers break
            return 0.0
        return min(max(score, 0.0), 1.0)

    def answer(self, instance):
        return None if instance["answer"] is None else str(instance["answer"])


ReasoningGymEnv, ReasoningGymEnvVector = environments(ReasoningGym)
