"""ToolGrammar: call the tools that a request needs, with the right names, keys and values, or say that none fits.

Observation: text: the tools on offer with their keys and descriptions, what was said before, today's date and the request; or
             tokens.
Action:      text `<think> .. </think> <tool_call> { "name": .., "parameters": { .. } } </tool_call>`, a JSON object for each
             call, or `<response> .. </response>` in its place or behind it; or its tokens one by one.
Reward:      exact: 1 if the form is right and so are all calls, otherwise 0. toolrl: form (0 or 1) + correctness (-3 to 3).
Terminates:  with the response.  Truncates: never.
Source:      ToolRL (Qian et al., 2025, arXiv:2504.13958, section 3.3); masked names after Hammer (Lin et al., 2024,
             arXiv:2410.04587).

A toolbox of 60 tools is drawn from the seed; 20 of them are held out (tools="unseen"). A tool's name is a verb and a noun,
which others have, too, and it has one to four keys; its description says in other words what it does, and its keys' meaning in
their order. In a share `masked` of the tasks, names and keys are meaningless words, so that only descriptions tell. Requests
paraphrase, have irrelevant clauses, state numbers as words, dates relative to today (`next week + 3` is ten days on) and units
in full, or refer to what was said before. 40 % of the tasks want one call, 25 % two or three, 20 % none of the tools (a
response instead), 15 % a call and a response.

`format_reward` and `correctness` are the paper's terms, with its granularities ("fine", "intermediate", "coarse", "strict")
and with greedy matching in the order of the wanted calls, as in its code, or the optimal one, as in its figure. White space
is free.
"""

import json
import re
from collections import Counter
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np

from explore_gym.envs.bandits.checks import check_number
from explore_gym.envs.text.task import Reply, Task
from explore_gym.envs.text.token_env import environments
from explore_gym.envs.text.tokenizers import WordTokenizer

VERBS = {  # word in names -> words in descriptions and requests
    "book": ("reserve", "hold"),
    "find": ("search", "locate"),
    "send": ("deliver", "mail"),
    "track": ("follow", "trace"),
    "rate": ("judge", "grade"),
    "plan": ("arrange", "organize"),
    "check": ("inspect", "examine"),
    "order": ("buy", "purchase"),
    "cancel": ("drop", "revoke"),
    "share": ("publish", "spread"),
}
NOUNS = {
    "hotel": ("lodging", "room"),
    "flight": ("plane", "airfare"),
    "meal": ("dinner", "food"),
    "taxi": ("cab", "ride"),
    "movie": ("film", "show"),
    "parcel": ("package", "box"),
    "course": ("class", "lesson"),
    "concert": ("gig", "recital"),
    "report": ("summary", "memo"),
    "device": ("gadget", "machine"),
    "loan": ("credit", "lending"),
    "garden": ("yard", "plot"),
}
ROLES = {  # key -> kind of its value and how a request states it
    "city": ("entity", ("in {}", "around {}")),
    "person": ("entity", ("for {}", "together with {}")),
    "shop": ("entity", ("at {}", "through {}")),
    "item": ("entity", ("about {}", "concerning {}")),
    "count": ("number", ("{} times", "exactly {} of them")),
    "price": ("number", ("below {} coins", "costing {} coins")),
    "day": ("date", ("on {}", "starting {}")),
    "until": ("date", ("until {}", "ending {}")),
    "unit": ("unit", ("measured as {}", "given as {}")),
}
ENTITIES = {
    "city": ("paris", "lima", "oslo", "cairo", "delhi", "quito", "turin", "perth"),
    "person": ("anna", "boris", "chen", "dina", "emil", "farah", "gita", "hugo"),
    "shop": ("acme", "nova", "orbit", "pixel", "quartz", "rivet", "summit", "tango"),
    "item": ("books", "lamps", "chairs", "plants", "shoes", "tea", "maps", "bikes"),
}
UNITS = {"km": "kilometres", "mi": "miles", "kg": "kilograms", "lb": "pounds", "eur": "euros", "usd": "dollars"}
NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
OPENINGS = ("please", "i want you to", "could you", "now")
NOISE = ("by the way it rains here", "my cat is asleep", "i had a long day", "thanks in advance", "the train was late again")
EXTRAS = ("and greet me", "and wish me luck")
NAME, PARAMETERS = '{"name":"', '","parameters":{"'
JSON_WORDS = (NAME, PARAMETERS, '":"', '":', '","', ',"', '"}}', "}}")
SYLLABLES = tuple(a + b + c for a in "bdfgklmz" for b in "aiou" for c in "fknpx")  # of masked names
TAGS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<response>", "</response>")
TAG = re.compile("|".join(TAGS))
KINDS, SHARES = ("single", "parallel", "none", "mixed"), (0.4, 0.25, 0.2, 0.15)
GRANULARITIES = ("fine", "intermediate", "coarse", "strict")
NUM_TOOLS, NUM_SEEN = 60, 40
TOOLBOX = (0, 0, 1)  # of the streams that the seed starts, the one of the toolbox: tasks have (index, attempt)
MAX_DATE, MAX_NUMBER = 60, 99
MAX_CALLS = 8  # that are looked at in a response
DECODER = json.JSONDecoder(parse_constant=lambda name: name, strict=False)  # white space is free in strings, too


class Tool(NamedTuple):
    """A tool as it is offered: its name, its keys, and for each key the role it plays."""

    name: str
    keys: tuple[str, ...]
    roles: tuple[str, ...]
    verb: str
    noun: str


class Request(NamedTuple):
    """A task: what is offered and said, and what is wanted."""

    kind: str
    masked: bool
    tools: tuple[Tool, ...]
    history: str
    today: int
    text: str
    calls: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...]  # names and (key, value) pairs


class ToolGrammar(Task):
    """Requests, tools and calls in a grammar of their own.

    Args:
        tools: the part of the toolbox that requests are about, "seen" or "unseen".
        masked: share of the tasks with meaningless names and keys, 0 to 1.
        reward: "exact" or "toolrl".
        granularity: of the reward "toolrl": "fine", "intermediate", "coarse" or "strict".
        matching: of the reward "toolrl": "greedy" or "optimal".
        skill: probability of each value in a demonstration to be right.
        sloppy: probability that a demonstration's form has a fault: a tag is missing.
        split: "train", "test" or "all".
        num_tasks: the tasks are those of the indices below this number; None: below 2**31.
        seed: draws the toolbox and the tasks.

    Raises:
        ValueError: an argument is outside the ranges above.
    """

    max_prompt, max_response = 3000, 2000
    prompt_tokens, response_tokens = 160, 72  # longer tasks are drawn again

    def __init__(
        self,
        tools="seen",
        masked=0.25,
        reward="exact",
        granularity="fine",
        matching="greedy",
        skill=1.0,
        sloppy=0.0,
        split="train",
        num_tasks=None,
        seed=0,
    ):
        super().__init__(split, num_tasks, seed)
        for name, value, known in (
            ("tools", tools, ("seen", "unseen")),
            ("reward", reward, ("exact", "toolrl")),
            ("granularity", granularity, GRANULARITIES),
            ("matching", matching, ("greedy", "optimal")),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        for name, value in (("masked", masked), ("skill", skill), ("sloppy", sloppy)):
            check_number(name, value, 0.0, 1.0)
        self.masked, self.reward, self.granularity, self.matching = masked, reward, granularity, matching
        self.skill, self.sloppy = skill, sloppy
        self.metrics = {"format": bool, "correctness": float, "kind": int}
        toolbox = draw_toolbox(np.random.default_rng((self.seed, *TOOLBOX)))
        self.toolbox = toolbox[:NUM_SEEN] if tools == "seen" else toolbox[NUM_SEEN:]
        self.tokenizer = WordTokenizer(vocabulary())

    def sample(self, rng):
        kind = KINDS[rng.choice(len(KINDS), p=SHARES)]
        masked = bool(rng.random() < self.masked)
        number = {"single": 1, "parallel": int(rng.integers(2, 4)), "none": 1, "mixed": 1}[kind]
        wanted = [self.toolbox[i] for i in rng.choice(len(self.toolbox), number, replace=False)]
        others = sorted(
            (tool for tool in self.toolbox if tool not in wanted and not any(alike(tool, w) for w in wanted)),
            key=lambda tool: (-max(len({*tool.roles} & {*w.roles}) for w in wanted), rng.random()),
        )
        size = max(int(rng.integers(3, 7)), number)
        offered = ([] if kind == "none" else wanted) + others[: size - (0 if kind == "none" else number)]
        offered = [offered[i] for i in rng.permutation(len(offered))]
        words = rng.permutation(SYLLABLES).tolist()
        names = {tool: mask(tool, words) if masked else tool for tool in [*offered, *wanted]}
        today, history, clauses, calls = int(rng.integers(1, 30)), "", [], []
        for tool in wanted:
            stated, pairs = [], []
            for role in tool.roles:
                said, value = draw_value(role, today, rng)
                if ROLES[role][0] == "entity" and not history and rng.random() < 0.25:
                    history, said = f"the {role} was {value} .", f"the same {role}"
                stated.append(ROLES[role][1][rng.integers(2)].format(said))
                pairs.append(value)
            verb = (tool.verb, *VERBS[tool.verb])[rng.integers(3)]
            noun = (tool.noun, *NOUNS[tool.noun])[rng.integers(3)]
            order = rng.permutation(len(stated))
            clauses.append(" ".join([verb, "a", noun, *(stated[i] for i in order)]))
            if kind != "none":
                shown = names[tool]
                calls.append((shown.name, tuple(zip(shown.keys, pairs))))
        parts = [OPENINGS[rng.integers(len(OPENINGS))], " and ".join(clauses)]
        if kind == "mixed":
            parts.append(EXTRAS[rng.integers(len(EXTRAS))])
        if rng.random() < 0.5:
            parts.insert(int(rng.integers(2)) * 2, NOISE[rng.integers(len(NOISE))] + " ,")
        offered = tuple(names[tool] for tool in offered)
        request = Request(kind, masked, offered, history, today, " ".join(parts), tuple(calls))
        fits = (
            len(self.ask(request).split()) <= self.prompt_tokens and len(self.answer(request).split()) <= self.response_tokens
        )
        return request if fits else None

    def key(self, instance):
        return instance.text, instance.today, instance.history, instance.calls

    def ask(self, instance):
        lines = [f"{tool.name} ( {' '.join(tool.keys)} ) : {describe(tool)}" for tool in instance.tools]
        before = f"before : {instance.history}\n" if instance.history else ""
        return "tools :\n" + "\n".join(lines) + f"\n{before}today d{instance.today}\nuser : {instance.text}\nassistant :"

    def check(self, instance, response):
        if not format_reward(instance, response):
            return 0.0
        calls = calls_in(response)
        return float(calls is not None and Counter(map(frozen, calls)) == Counter(map(frozen, wanted_calls(instance))))

    def format_reward(self, index, response):
        """1 if the wanted parts are there in their order, each once, and nothing stands between or around them."""
        return format_reward(self.instance(index), response)

    def correctness(self, index, response, granularity="fine", matching="greedy"):
        """How right the calls are, S / S_max in [0, 1]; None if no call is wanted."""
        return correctness(self.instance(index), response, granularity, matching)

    def respond(self, index, memory, response):
        memory["turn"] += 1
        instance = self.instance(index)
        success = self.verify(index, response)
        form, share = format_reward(instance, response), correctness(instance, response, self.granularity, self.matching)
        reward = success if self.reward == "exact" else form + (0.0 if share is None else 6.0 * share - 3.0)
        metrics = {"format": bool(form), "correctness": share or 0.0, "kind": KINDS.index(instance.kind)}
        return Reply("", reward, True, {"success": success == 1.0, **metrics})

    def answer(self, instance):
        return write(instance, wanted_calls(instance))

    def solutions(self, index):
        """The one set of calls."""
        return [self.solve(index)]

    def demonstrate(self, index, rng, memory=None):
        instance, calls = self.instance(index), []
        for name, parameters in wanted_calls(instance):
            noisy = {key: value if rng.random() < self.skill else wrong(value, rng) for key, value in parameters.items()}
            calls.append((name, noisy))
        words = write(instance, calls).split()
        if rng.random() < self.sloppy:
            words.remove([tag for tag in TAGS if tag in words][rng.integers(sum(tag in words for tag in TAGS))])
        return " ".join(words)


def draw_toolbox(rng):
    """NUM_TOOLS tools of different names."""
    pairs = [(verb, noun) for verb in VERBS for noun in NOUNS]
    roles, tools = list(ROLES), []
    for i in rng.choice(len(pairs), NUM_TOOLS, replace=False):
        verb, noun = pairs[i]
        chosen = tuple(roles[k] for k in rng.choice(len(roles), rng.integers(1, 5), replace=False))
        tools.append(Tool(f"{verb} {noun}", chosen, chosen, verb, noun))
    return tools


def alike(one, two):
    """Whether a request for one could mean the other."""
    return one.verb == two.verb and one.noun == two.noun


def mask(tool, words):
    """The tool with meaningless words, taken from the list, as name and keys."""
    return tool._replace(name=words.pop(), keys=tuple(words.pop() for _ in tool.keys))


def describe(tool):
    return f"{VERBS[tool.verb][0]} {NOUNS[tool.noun][0]} by {' '.join(tool.roles)}"


def draw_value(role, today, rng):
    """How a request states a value, and the value."""
    kind = ROLES[role][0]
    if kind == "entity":
        value = ENTITIES[role][rng.integers(len(ENTITIES[role]))]
        return value, value
    if kind == "unit":
        value = list(UNITS)[rng.integers(len(UNITS))]
        return (value, UNITS[value])[rng.integers(2)], value
    if kind == "number":
        value = int(rng.integers(2, MAX_NUMBER + 1)) if rng.random() < 0.5 else int(rng.integers(2, len(NUMBER_WORDS)))
        return NUMBER_WORDS[value] if value < len(NUMBER_WORDS) and rng.random() < 0.5 else str(value), value
    days = int(rng.integers(1, 7))
    form = rng.integers(4)
    ahead = (days, 1, 7 + days, days)[form]
    said = (f"d{today + days}", "tomorrow", f"next week + {days}", f"today + {days}")[form]
    return said, f"d{today + ahead}"


def wrong(value, rng):
    """Another value of the same kind."""
    if isinstance(value, int):
        return (value + int(rng.integers(1, MAX_NUMBER))) % (MAX_NUMBER + 1)
    if value[0] == "d" and value[1:].isdigit():
        return f"d{(int(value[1:]) + int(rng.integers(1, MAX_DATE))) % (MAX_DATE + 1)}"
    group = next(group for group in (tuple(UNITS), *ENTITIES.values()) if value in group)
    return group[(group.index(value) + int(rng.integers(1, len(group)))) % len(group)]


def vocabulary():
    """All words of prompts and responses."""
    said = [*VERBS, *NOUNS, *ROLES, *UNITS, *UNITS.values(), *SYLLABLES, *NUMBER_WORDS, *OPENINGS, *NOISE, *EXTRAS, *KINDS]
    said += [word for group in (*VERBS.values(), *NOUNS.values(), *ENTITIES.values()) for word in group]
    said += [phrase.replace("{}", "") for _, phrases in ROLES.values() for phrase in phrases]
    said += ["tools before today tomorrow next week user assistant by a and the same was call no tool fits hello , . : ( ) +"]
    said += [*map(str, range(MAX_NUMBER + 1)), *(f"d{day}" for day in range(MAX_DATE + 1)), *TAGS, *JSON_WORDS]
    return list(dict.fromkeys(" ".join(said).split()))


def wanted_calls(instance):
    """The wanted calls, pairs (name, dict of parameters)."""
    return [(name, dict(pairs)) for name, pairs in instance.calls]


def wanted_tags(instance):
    parts = ["think", *(["tool_call"] if instance.calls else []), *(["response"] if instance.kind in ("none", "mixed") else [])]
    return [tag for part in parts for tag in (f"<{part}>", f"</{part}>")]


def write(instance, calls):
    """A response with these calls, words with a space between two."""
    parts = [f"<think> {' '.join(['call', *(name for name, _ in calls)]) if calls else 'no tool fits'} </think>"]
    if calls:
        parts.append(f"<tool_call> {' '.join(json_words(call) for call in calls)} </tool_call>")
    if instance.kind in ("none", "mixed"):
        parts.append(f"<response> {'no tool fits' if instance.kind == 'none' else 'hello'} </response>")
    return " ".join(parts)


def json_words(call):
    """A call as JSON whose words are few: quotes and commas stick together, names and values stand alone."""
    name, parameters = call
    words, after = [NAME, name, PARAMETERS], ""
    for i, (key, value) in enumerate(parameters.items()):
        number = isinstance(value, int)
        words += [*([f'{after},"'] if i else []), key, '":' if number else '":"', str(value)]
        after = "" if number else '"'
    return " ".join([*words, after + "}}"])


def format_reward(instance, response):
    """1.0 if the response has the wanted parts in order, each once, and nothing else, otherwise 0.0."""
    found = list(TAG.finditer(response))
    if [tag[0] for tag in found] != wanted_tags(instance):
        return 0.0
    outside = [response[: found[0].start()], response[found[-1].end() :]]
    outside += [response[one.end() : two.start()] for one, two in zip(found[1::2], found[2::2])]
    return 0.0 if any(part.strip() for part in outside) else 1.0


def calls_in(response):
    """The calls between the tags, pairs (name, dict of parameters); [] without tags, None if they can't be read."""
    _, opened, rest = response.partition("<tool_call>")
    text, closed, _ = rest.partition("</tool_call>")
    if not opened:
        return []
    if not closed:
        return None
    calls, text = [], text.strip()
    while text and len(calls) <= MAX_CALLS:
        try:
            call, end = DECODER.raw_decode(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(call, dict) or len(call) != 2:
            return None
        named = {one_space(key): value for key, value in call.items()}
        name, parameters = named.get("name"), named.get("parameters")
        if not isinstance(name, str) or not isinstance(parameters, dict):
            return None
        values = {one_space(key): one_space(x) if isinstance(x, str) else x for key, x in parameters.items()}
        calls.append((one_space(name), values))
        text = text[end:].lstrip()
    return calls if calls and len(calls) <= MAX_CALLS else None


def one_space(words):
    """Words with one space between two, and none around them."""
    return " ".join(words.split())


def frozen(call):
    """A call as something to compare and count: 1, "1", 1.0 and True differ."""
    name, parameters = call
    return name, frozenset((key, type(value).__name__, repr(value)) for key, value in parameters.items())


def jaccard(one, two):
    """Of two multisets: common elements over all."""
    one, two = Counter(one), Counter(two)
    return sum((one & two).values()) / sum((one | two).values()) if one or two else 1.0


def correctness(instance, response, granularity="fine", matching="greedy"):
    """S / S_max of a response's calls, 0 if they are missing or can't be read; None if no call is wanted."""
    wanted = wanted_calls(instance)
    if not wanted:
        return None
    calls = calls_in(response)
    if not calls:
        return 0.0
    if Counter(map(frozen, calls)) == Counter(map(frozen, wanted)):
        return 1.0
    if granularity == "coarse":
        return 0.0
    names = [name for name, _ in wanted], [name for name, _ in calls]
    named = jaccard(*names) if granularity != "strict" else float(Counter(names[0]) == Counter(names[1]))
    matched = [[pair_score(w, call, granularity) for call in calls] for w in wanted]
    total = greedy_total(matched) if matching == "greedy" else optimal_total(matched)
    most = sum(1.0 if granularity == "intermediate" else 1.0 + len(parameters) for _, parameters in wanted)
    return (named + total) / (1.0 + most)


def pair_score(wanted, call, granularity):
    """What a call earns if it stands for a wanted one; None if it is of another name."""
    if wanted[0] != call[0]:
        return None
    if granularity == "intermediate":
        return float(frozen(wanted) == frozen(call))
    keys = jaccard(list(wanted[1]), list(call[1])) if granularity == "fine" else float(wanted[1].keys() == call[1].keys())
    return keys + len(frozen(wanted)[1] & frozen(call)[1])


def greedy_total(matched):
    """Each wanted call in turn takes the best of those that are left."""
    total, used = 0.0, set()
    for scores in matched:
        free = [(score, -j) for j, score in enumerate(scores) if score is not None and j not in used]
        if free:
            score, j = max(free)
            total += score
            used.add(-j)
    return total


def optimal_total(matched):
    """The largest total over all ways to match; a wanted call may stay without one."""
    places = [*range(len(matched[0])), *[None] * len(matched)]
    totals = (sum(row[j] or 0.0 for row, j in zip(matched, way) if j is not None) for way in permutations(places, len(matched)))
    return max(totals)


ToolGrammarEnv, ToolGrammarEnvVector = environments(ToolGrammar)
