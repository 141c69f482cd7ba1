"""GeneralPoints: make 24 from four cards, with several attempts and a word on what was wrong with the last.

Observation: text `3 8 J K ; J = 10 Q = 10 K = 10 ; 24 =`, after an attempt `wrong value`, `wrong cards` or `wrong syntax`; or
             tokens.
Action:      text `8 / ( 3 - 8 / 3 )`: an expression that has each card's value exactly once; or its tokens one by one.
Reward:      for each attempt: 5 if it is right, -1 if its value isn't the target, -2 if it hasn't each card exactly once, -3
             if it is no expression.
Terminates:  when an attempt is right, or after the last of `attempts` (5).  Truncates: never.
Source:      GeneralPoints (Chu et al., 2025, arXiv:2501.17161, section 4.1 and appendix B); rewards and attempts as in AMFT.

The cards are 1 to 10 and J, Q and K, which count 10; the rule is told in the prompt, so that other rules can be asked for:
faces={"J": 11, "Q": 12, "K": 13} is the source's test outside of the training distribution. All else is Countdown's.
"""

from explore_gym.envs.text.countdown import LARGEST, LETTERS, Countdown
from explore_gym.envs.text.task import Reply
from explore_gym.envs.text.token_env import environments
from explore_gym.envs.text.tokenizers import WordTokenizer

REWARDS = {"right": 5.0, "value": -1.0, "cards": -2.0, "syntax": -3.0}
WORDS = {
    "value": "The value is another one. Try again.",
    "cards": "Each card must be used exactly once. Try again.",
    "syntax": "This is no expression with + - * / and brackets. Try again.",
}
FAULTS = {"": 0, **{fault: i for i, fault in enumerate(REWARDS)}}


class GeneralPoints(Countdown):
    """The game of 24 with attempts and feedback.

    Args:
        cards: number of cards, 2 to 6.
        low, high: values of the numbered cards, 1 to 200.
        target: what to make, an integer in [1, 200] or a pair (lowest, highest) to draw it from.
        faces: values to draw those of J, Q and K from, or {"J": 11, "Q": 12, "K": 13}, 1 to 200; None: no face cards.
        attempts: at most, 1 to 20.
        solutions: how many a task may have, a pair (fewest, most), for 2 to 4 cards; None: at least one.
        skill: probability that a demonstration is right; otherwise it is a random expression of the cards.
        wording: "short", or "long" for prompts in English and a token per character.
        split: "train", "test" or "all".
        num_tasks: the tasks are those of the indices below this number; None: below 2**31.
        seed: draws the tasks.

    Raises:
        ValueError: an argument is outside the ranges above.
    """

    metrics = {"fault": int}  # of the last attempt: 0 none, 1 value, 2 cards, 3 syntax

    def __init__(
        self,
        cards=4,
        low=1,
        high=10,
        target=24,
        faces=(10,),
        attempts=5,
        solutions=None,
        skill=1.0,
        wording="short",
        split="train",
        num_tasks=None,
        seed=0,
    ):
        super().__init__(cards, low, high, target, faces, "expression", solutions, skill, wording, split, num_tasks, seed)
        if not (isinstance(attempts, int) and 1 <= attempts <= 20):
            raise ValueError(f"attempts must be an integer in [1, 20], got {attempts!r}")
        self.turns = attempts
        self.reply_tokens = 2 if wording == "short" else max(map(len, WORDS.values()))
        if wording == "short":
            self.tokenizer = WordTokenizer([*map(str, range(LARGEST + 1)), *LETTERS, *"+-*/()=;", "wrong", *WORDS])

    def respond(self, index, memory, response):
        memory["turn"] += 1
        fault = self.judge(self.instance(index), response)
        done = fault == "right" or memory["turn"] == self.turns
        text = "" if done else f"wrong {fault}" if self.wording == "short" else WORDS[fault]
        return Reply(text, REWARDS[fault], bool(done), {"success": fault == "right", "fault": FAULTS[fault]})


GeneralPointsEnv, GeneralPointsEnvVector = environments(GeneralPoints)
