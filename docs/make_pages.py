"""Fill the generated sections of README.md and of the pages in docs/ from what the code and the stored data say.

A section lies between `<!-- generated: its name -->` and `<!-- end -->`; the rest of a page is written by hand.

    python docs/make_pages.py               # rewrite the sections
    python docs/make_pages.py --check       # write nothing, exit 1 if a page differs from what would be written
    python docs/make_pages.py --scores      # play and solve the environments again (docs/envs/scores.json), then rewrite;
                                            # with ids after it, such as DoorKey-v0, those alone
    python docs/make_pages.py --pictures    # record docs/pictures again, all or those of ids, then rewrite
"""

import argparse
import dataclasses
import difflib
import importlib
import inspect
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np

from explore_gym.envs import ENVIRONMENTS, NAMESPACE, VARIANTS
from explore_gym.envs.coverage.grid import WalkGrid
from explore_gym.envs.coverage.point_coverage import PointCoverage
from explore_gym.envs.coverage.references import greedy_walk, upper_bound
from explore_gym.envs.navigation.drivers import RuleDriver
from explore_gym.envs.navigation.driving import Driving
from explore_gym.envs.navigation.explorers import Frontier, Oracle, play
from explore_gym.envs.navigation.topo_nav import TopoNav
from explore_gym.envs.xland.planner import plan
from explore_gym.envs.xland.xland import XLand

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SCORES = DOCS / "envs" / "scores.json"
THROUGHPUT = DOCS / "benchmarks" / "throughput.json"
SECTION = re.compile(r"(<!-- generated: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)

LINE_LENGTH = 128
NUM_EPISODES, NUM_SEEDS = 1000, 10  # random policy: episodes per seed
STUDENT = 2.262  # 97.5 % point of Student's t with NUM_SEEDS - 1 degrees of freedom
NUM_LAYOUTS = 100  # episodes solved exactly where each has a layout of its own,
MAX_STATES = 200_000  # if none of them has more states than that
AGENT_RETURNS = [f"agent {i}" for i in range(4)]  # where several act: the scores of each
EXPLORERS = {"frontier": Frontier, "oracle": Oracle}  # of TopoNav,
EXPLORED = {"return": "{}", "spl": "SPL ({})", "coverage": "Coverage ({})"}  # and the headings of what is stored of them

# Settings whose scores are stored: the defaults, and those of the literature or with an exact reference of their own
SETTINGS = [
    ("MetaBandit-v0", {}),
    ("MetaBandit-v0", {"family": "bernoulli"}),
    ("MetaBandit-v0", {"safe_arm": 0.5}),
    ("ContextualBandit-v0", {}),
    ("ContextualBandit-v0", {"model": "shared"}),
    ("LinearBandit-v0", {}),
    ("BestArm-v0", {}),
    ("BestArm-v0", {"max_complexity": 10.0}),
    ("BestArm-v0", {"loss": "regret"}),
    ("Thresholds-v0", {}),
    ("TwentyQuestions-v0", {}),
    ("RatingBandit-v0", {}),
    ("MetaGrid-v0", {}),
    ("MetaGrid-v0", {"layout": "rooms"}),
    ("MetaGrid-v0", {"layout": "comb", "episode_steps": 12}),
    ("MetaGrid-v0", {"traps": 3}),
    ("DeepSea-v0", {}),
    ("DeepSea-v0", {"size": 20}),
    ("DeepSea-v0", {"size": 50}),
    ("DeepSea-v0", {"deterministic": False}),
    ("RiverSwim-v0", {}),
    ("RiverSwim-v0", {"size": 12, "max_steps": 100}),
    ("Corridor-v0", {}),
    ("Corridor-v0", {"size": 8}),
    ("SlipperyRooms-v0", {}),
    ("SlipperyRooms-v0", {"slip": 0.3}),
    ("Garnet-v0", {}),
    ("FourRooms-v0", {}),
    ("FourRooms-v0", {"size": 9}),
    ("Empty-v0", {}),
    ("Empty-v0", {"size": 16}),
    ("LavaCrossing-v0", {}),
    ("SimpleCrossing-v0", {}),
    ("LavaGap-v0", {}),
    ("DistShift-v0", {}),
    ("DistShift-v0", {"strip2_row": 5}),
    ("DoorKey-v0", {}),
    ("DoorKey-v0", {"size": 5}),
    ("MultiRoom-v0", {}),
    ("MultiRoom-v0", {"min_rooms": 2, "max_rooms": 2, "max_room_size": 4}),
    ("RedBlueDoors-v0", {}),
    ("Memory-v0", {}),
    ("DynamicObstacles-v0", {}),
    ("Fetch-v0", {}),
    ("GoToDoor-v0", {}),
    ("GoToObject-v0", {}),
    ("PutNear-v0", {}),
    ("LockedRoom-v0", {}),
    ("Unlock-v0", {}),
    ("UnlockPickup-v0", {}),
    ("BlockedUnlockPickup-v0", {}),
    ("KeyCorridor-v0", {}),
    ("KeyCorridor-v0", {"room_size": 3, "num_rows": 1}),
    ("ObstructedMaze-v0", {}),
    ("LavaMultiRoom-v0", {}),
    ("Corridors-v0", {}),
    ("KeyRoom-v0", {}),
    ("HindsightMaze-v0", {}),
    ("MazeRooms-v0", {}),
    ("XLand-v0", {}),
    ("XLand-v0", {"rules": "trivial"}),
    ("XLand-v0", {"rules": "medium", "size": 13}),
    ("XLand-v0", {"rules": "high", "size": 13}),
    ("XLand-Games-v0", {}),
    ("XLand-Games-v0", {"relation": "shared"}),
    ("XLand-Games-v0", {"relation": "opposed"}),
    ("XLand-HideAndSeek-v0", {}),
    ("XLand-Tag-v0", {}),
    ("XLand-CaptureTheFlag-v0", {}),
    ("XLand-KeepAway-v0", {}),
    ("NoveltyRec-v0", {}),
    ("NoveltyRec-v0", {"sessions": 40, "days": 30}),
    ("SlateRec-v0", {}),
    ("TinyRec-v0", {}),
    ("TinyRec-v0", {"slate": 2, "session_steps": 2}),
    ("GridCoverage-v0", {}),
    ("GridCoverage-v0", {"density": "constant"}),
    ("GridCoverage-v0", {"density": "bimodal"}),
    ("Biodiversity-v0", {}),
    ("ExperimentDesign-v0", {}),
    ("ItemCollection-v0", {}),
    ("BuildingExploration-v0", {}),
    ("BuildingExploration-v0", {"slip": 0.2}),
    ("PointCoverage-v0", {}),
    ("TopoNav-v0", {}),
    ("TopoNav-Feature-v0", {}),
    ("TopoNav-Terrain-v0", {}),
    ("TopoNav-Open-v0", {}),
    ("TopoNav-Small-v0", {}),
    ("HardMaze-v0", {}),
    ("HardMaze-v0", {"reward": "reach"}),
    ("HardMaze-v0", {"maze": "twin"}),
    ("RedundantArm-v0", {}),
    ("RedundantArm-v0", {"radius": 0.02}),
    ("Driving-v0", {}),
    ("Driving-Shaped-v0", {}),
    ("Driving-Additive-v0", {}),
    ("Driving-Eval-v0", {}),
]

XLAND = ["--steps", "60", "--fps", "5", "--scale", "1"]
# Arguments of scripts/record.py; an exact model, which the optimal policy needs, doesn't exist of Gaussian bandits. In the
# games' seeds something happens; TopoNav's leads into a dead end and out of it.
PICTURES = {
    "MetaBandit-v0": ["--policy", "random", "--steps", "30", "--fps", "4"],
    "ContextualBandit-v0": ["--policy", "random", "--steps", "30", "--fps", "4"],
    "LinearBandit-v0": ["--policy", "random", "--steps", "30", "--fps", "4"],
    "BestArm-v0": ["--policy", "random", "--steps", "30", "--fps", "4"],
    "Thresholds-v0": ["--policy", "random", "--steps", "20", "--fps", "4"],
    "TwentyQuestions-v0": ["--policy", "random", "--steps", "20", "--fps", "4"],
    "RatingBandit-v0": ["--policy", "random", "--steps", "10", "--fps", "2"],
    "MetaGrid-v0": ["--policy", "random", "--steps", "100"],
    "XLand-v0": ["--policy", "planner", *XLAND],
    "XLand-Games-v0": ["--policy", "random", "--steps", "80", "--seed", "20", "--scale", "1"],
    "XLand-HideAndSeek-v0": ["--policy", "random", "--steps", "80", "--seed", "6", "--scale", "1"],
    "XLand-Tag-v0": ["--policy", "random", "--steps", "80", "--seed", "5", "--scale", "1"],
    "XLand-CaptureTheFlag-v0": ["--policy", "random", "--steps", "80", "--seed", "18", "--scale", "1"],
    "XLand-KeepAway-v0": ["--policy", "random", "--steps", "80", "--seed", "7", "--scale", "1"],
    "DeepSea-v0": ["--policy", "optimal", "--steps", "20", "--fps", "4"],
    "RiverSwim-v0": ["--policy", "optimal", "--steps", "40"],
    "Corridor-v0": ["--policy", "optimal", "--steps", "40"],
    "SlipperyRooms-v0": ["--policy", "optimal", "--steps", "40"],
    "Garnet-v0": ["--policy", "optimal", "--steps", "30", "--fps", "4"],
    "FourRooms-v0": ["--policy", "optimal", "--steps", "60"],
    "Empty-v0": ["--policy", "optimal", "--steps", "40"],
    "LavaCrossing-v0": ["--policy", "optimal", "--steps", "40"],
    "SimpleCrossing-v0": ["--policy", "optimal", "--steps", "40"],
    "LavaGap-v0": ["--policy", "optimal", "--steps", "40"],
    "DistShift-v0": ["--policy", "optimal", "--steps", "40"],
    "DoorKey-v0": ["--policy", "optimal", "--steps", "40"],
    "MultiRoom-v0": ["--policy", "optimal", "--steps", "40"],
    "RedBlueDoors-v0": ["--policy", "optimal", "--steps", "40"],
    "Memory-v0": ["--policy", "optimal", "--steps", "40"],
    "DynamicObstacles-v0": ["--policy", "random", "--steps", "60"],
    "Fetch-v0": ["--policy", "random", "--steps", "60"],
    "GoToDoor-v0": ["--policy", "random", "--steps", "60"],
    "GoToObject-v0": ["--policy", "random", "--steps", "60"],
    "PutNear-v0": ["--policy", "random", "--steps", "60"],
    "LockedRoom-v0": ["--policy", "random", "--steps", "60"],
    "Unlock-v0": ["--policy", "optimal", "--steps", "40"],
    "UnlockPickup-v0": ["--policy", "optimal", "--steps", "40"],
    "BlockedUnlockPickup-v0": ["--policy", "random", "--steps", "60"],
    "KeyCorridor-v0": ["--policy", "random", "--steps", "60"],
    "ObstructedMaze-v0": ["--policy", "random", "--steps", "60"],
    "LavaMultiRoom-v0": ["--policy", "optimal", "--steps", "60"],
    "Corridors-v0": ["--policy", "optimal", "--steps", "40"],
    "KeyRoom-v0": ["--policy", "optimal", "--steps", "40"],
    "HindsightMaze-v0": ["--policy", "random", "--steps", "60"],
    "MazeRooms-v0": ["--policy", "optimal", "--steps", "180", "--fps", "20"],
    "GridCoverage-v0": ["--policy", "random", "--steps", "60"],
    "Biodiversity-v0": ["--policy", "random", "--steps", "60"],
    "ExperimentDesign-v0": ["--policy", "random", "--steps", "60"],
    "ItemCollection-v0": ["--policy", "random", "--steps", "60"],
    "BuildingExploration-v0": ["--policy", "random", "--steps", "60"],
    "PointCoverage-v0": ["--policy", "random", "--steps", "200", "--fps", "20"],
    "NoveltyRec-v0": ["--policy", "random", "--steps", "60", "--fps", "4"],
    "SlateRec-v0": ["--policy", "random", "--steps", "60", "--fps", "4"],
    "TinyRec-v0": ["--policy", "random", "--steps", "20", "--fps", "2"],
    "TopoNav-v0": ["--policy", "frontier", "--steps", "254", "--fps", "15", "--seed", "3"],
    "HardMaze-v0": ["--policy", "oracle", "--steps", "400", "--fps", "30"],
    "RedundantArm-v0": ["--policy", "random", "--steps", "100", "--fps", "20"],
    "Driving-v0": ["--policy", "driver", "--steps", "400", "--fps", "20", "--seed", "7"],
}

# What else the section "policies" shows beside an id's picture, if it is there: ending of the name -> arguments as above, None
# for a picture that an agent's run is needed for
POLICIES = {"XLand-v0": {"trained": None, "random": ["--policy", "random", *XLAND]}}


def environment_class(name):
    """The class behind an id without its namespace."""
    base = VARIANTS[name][0] if name in VARIANTS else name
    module, _, cls = ENVIRONMENTS[base][0].partition(":")
    return getattr(importlib.import_module(f"explore_gym.envs.{module}"), cls)


def page_of(name):
    """The page of an id without its namespace: named after its module."""
    return DOCS / "envs" / (environment_class(name).__module__.rpartition(".")[2] + ".md")


def split_docstring(docstring):
    """A module docstring's title, rows [key, text] of its table, and its other paragraphs."""
    title, _, rest = inspect.cleandoc(docstring).partition("\n")
    rows, paragraphs, in_table = [], [""], False
    for line in rest.split("\n"):
        entry = re.fullmatch(r"([A-Z][a-z]+):\s+(\S.*)", line)
        if entry:
            rows.append([entry[1], entry[2]])
            in_table = True
        elif line.startswith(" ") and in_table:
            rows[-1][1] += " " + line.strip()
        elif line:
            paragraphs[-1] += " " + line
            in_table = False
        else:
            paragraphs.append("")
            in_table = False
    rows = [pair for key, text in rows for pair in split_ends(key, text)]
    return title, rows, [paragraph.strip() for paragraph in paragraphs if paragraph.strip()]


def split_ends(key, text):
    """The row itself, or two where a line says when an episode terminates and when it truncates."""
    first, ends, second = text.partition("Truncates:")
    return [[key, first.strip()], ["Truncates", second.strip()]] if ends else [[key, text]]


def split_arguments(cls):
    """Rows [names, text] of the Args of a class's docstring."""
    rows, inside = [], False
    for line in inspect.getdoc(cls).split("\n"):
        entry = re.fullmatch(r" {4}(\w[\w, ]*): (.+)", line)
        if not line.startswith(" "):
            inside = line == "Args:"
        elif inside and entry:
            rows.append([entry[1], entry[2]])
        elif inside:
            rows[-1][1] += " " + line.strip()
    return rows


def linked(text):
    """Text for a table's cell: Markdown's own characters escaped, links to arXiv."""
    text = re.sub(r"`[^`]*`|<", lambda match: "&lt;" if match[0] == "<" else match[0], text)  # code stays as it is
    text = text.replace("|", r"\|").replace("__", r"\_\_")
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(str(cell) for cell in line) + " |\n" for line in lines)


def section_description(page):
    """Picture, where there is one, sentence, id, the table of the module docstring and its paragraphs."""
    name = id_of(page)
    cls = environment_class(name)
    title, rows, paragraphs = split_docstring(inspect.getmodule(cls).__doc__)
    sentence = title.partition(": ")[2]
    pictures = [f"![{cls.__name__}, played by {player(name)}](../pictures/{name}.gif)"] if name in PICTURES else []
    body = table(["", ""], [[f"**{key}**", linked(text)] for key, text in rows])
    head = [*pictures, sentence[0].upper() + sentence[1:], f"Id: `{NAMESPACE}/{name}`", body.rstrip("\n")]
    return "\n\n".join(head + [linked(paragraph) for paragraph in paragraphs]) + "\n"


def player(name):
    """Who plays in an id's picture."""
    policy = PICTURES[name][1]
    return f"the {policy}" if policy in ("planner", "oracle", "driver") else f"the {policy} policy"


def section_policies(page):
    """Pictures of several policies side by side."""
    name = id_of(page)
    stems = {PICTURES[name][1]: name, **{policy: f"{name}-{policy}" for policy in POLICIES[name]}}
    there = {policy: stem for policy, stem in stems.items() if (DOCS / "pictures" / f"{stem}.gif").exists()}
    return table(list(there), [[f"![{policy}](../pictures/{stem}.gif)" for policy, stem in there.items()]])


def section_arguments(page):
    """The constructor's signature and what its arguments mean."""
    cls = environment_class(id_of(page))
    parameters = [str(p).replace("'", '"') for p in inspect.signature(cls).parameters.values()]
    signature = f"{cls.__name__}({', '.join(parameters)})"
    if len(signature) > LINE_LENGTH:
        signature = f"{cls.__name__}(\n" + "".join(f"    {p},\n" for p in parameters) + ")"
    rows = "".join(f"- `{names.replace(', ', '`, `')}`: {text}\n" for names, text in split_arguments(cls))
    return f"```python\n{signature}\n```\n\n{rows}"


def section_scores(page):
    """Random, scripted and optimal scores of the stored settings of this id and its variants; empty columns are left out."""
    name, rows = id_of(page), []
    for entry in json.loads(SCORES.read_text())["settings"]:
        id = entry["id"].removeprefix(f"{NAMESPACE}/")
        if environment_class(id) is environment_class(name):
            kwargs = ", ".join(f"{key}={value!r}" for key, value in entry["kwargs"].items())
            setting = f"`{kwargs}`" if kwargs else "defaults" if id == name else f"`{id}`"
            random, exact = entry["random"], entry["exact"]
            measured = {key: interval(values) for key, values in random.items()}
            planned = {key: interval(values) for key, values in entry.get("planner", {}).items()}
            expected = f"{exact['random']:.4g}" if "random" in exact else "–"
            optimal = exact.get("optimal", "–")
            optimal = interval(optimal) if isinstance(optimal, list) else optimal if optimal == "–" else f"{optimal:.4g}"
            extra = [measured.get(key, "–") for key in ("coverage", "success", *AGENT_RETURNS)]
            extra += [planned.get(key, "–") for key in ("return", "success")]
            explored = entry.get("explorers", {})
            extra += [interval(explored[who][key]) if explored else "–" for who in EXPLORERS for key in EXPLORED]
            extra += [f"{exact[key]:.4g}" if key in exact else "–" for key in ("greedy", "bound")]
            rows.append([setting, measured["return"], expected, optimal, *extra])
    head = ["Setting", "Random, played", "Random, exact", "Optimal, exact", "Coverage (random)", "Success (random)"]
    head += [f"{key[0].upper()}{key[1:]} (random)" for key in AGENT_RETURNS] + ["Planner", "Success (planner)"]
    explored = [heading.format(who) for who in EXPLORERS for heading in EXPLORED.values()]
    head += [heading[0].upper() + heading[1:] for heading in explored] + ["Greedy", "Upper bound"]
    used = [i for i in range(len(head)) if i < 2 or any(row[i] != "–" for row in rows)]
    return table([head[i] for i in used], [[row[i] for i in used] for row in rows])


def interval(values):
    """Mean ± half width of the 95 % confidence interval."""
    quantile = STUDENT if len(values) == NUM_SEEDS else 1.96
    half = quantile * statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.mean(values):.4g} ± {half:.2g}"


def section_ids(page):
    """README's table of ids."""
    rows = []
    for name, (path, _) in ENVIRONMENTS.items():
        env = gym.make(f"{NAMESPACE}/{name}").unwrapped
        link = f"[`{NAMESPACE}/{name}`]({page_of(name).relative_to(page.parent)})"
        family = path.partition(".")[0]
        rows.append([link, family, purpose(name), space(env.observation_space), space(env.action_space), reference(name, env)])
    return table(["Id", "Family", "What it tests", "Observation", "Action", "Exact reference"], rows)


def purpose(name):
    """The first sentence under "What it tests" on an environment's page."""
    text = page_of(name).read_text().partition("## What it tests\n\n")[2]
    return re.match(r"(.+?[.])\s", text.replace("\n", " "))[1].rstrip(".")


def space(space):
    """A space in a few characters."""
    if isinstance(space, gym.spaces.Dict):
        return ", ".join(key if isinstance(sub, gym.spaces.Text) else f"{key} {short(sub)}" for key, sub in space.items())
    return short(space)


def short(space):
    return f"Discrete({space.n})" if isinstance(space, gym.spaces.Discrete) else f"{space.dtype} {space.shape}"


def reference(name, env):
    """Which exact scores an environment offers."""
    known = [f"`{name}`" for name in ("optimal_value()", "random_value()") if hasattr(env, name.removesuffix("()"))]
    if hasattr(env, "optimal_return"):
        known.append("`optimal_return`")
    solved = [entry["exact"] for entry in json.loads(SCORES.read_text())["settings"] if entry["id"] == f"{NAMESPACE}/{name}"]
    if any(isinstance(exact.get("optimal"), list) for exact in solved):
        known.append("by layout, `shortest_path()`")
    return ", ".join(known) or "–"


def section_speed(page):
    """README's figures: one line per id, in thousands of steps per second."""
    parts = stored_throughput()
    if "ids" not in parts:
        return f"No figures are stored yet: `{throughput_command()}` measures and stores them.\n"
    return f"{throughput_table(parts['ids']['rows'])}\n{machine(parts['ids'])}\n"


def section_throughput(page):
    """All stored figures: ids, peers, training."""
    sections, parts = [], stored_throughput()
    for part, (title, show) in PARTS.items():
        if part in parts:
            sections.append(f"## {title}\n\n{show(parts[part]['rows'])}\n{machine(parts[part])}")
    return "\n".join(sections) or f"No figures are stored yet: `{throughput_command()}` measures and stores them.\n"


def stored_throughput():
    return json.loads(THROUGHPUT.read_text()) if THROUGHPUT.exists() else {}


def throughput_command():
    return "python scripts/throughput.py --full --store"


def machine(part):
    what, settings = part["machine"], part["settings"]
    versions = ", ".join(f"{name} {version}" for name, version in what["versions"].items())
    copy = "fresh arrays" if settings["copy"] else "shared buffers"
    threads = f"{settings['num_threads']} thread{'s' if settings['num_threads'] > 1 else ''}"
    return (
        f"Measured on {what['date']} with `{part['command']}` on {what['cores']} cores of {what['cpu']} "
        f"({versions}): {threads}, {copy}, median of {settings['rounds']} rounds.\n"
    )


def throughput_table(rows):
    sizes = sorted({row["num_envs"] for row in rows})
    speeds = {(row["id"], row["num_envs"]): row["steps_per_second"] for row in rows}
    lines = [[f"`{id}`", *(in_thousands(speeds.get((id, n))) for n in sizes)] for id in dict.fromkeys(r["id"] for r in rows)]
    heads = [f"{n:,} environments" if n > 1 else "single" for n in sizes]
    return "Thousands of environment steps per second:\n\n" + table(["Id", *heads], lines)


def in_thousands(speed):
    return "–" if speed is None else f"{speed / 1000:,.0f}"


def ratio_table(rows):
    lines = []
    for row in rows:
        if "missing" in row:
            figures = ["–", "–", f"not measured: {row['missing']}", "–"]
        else:
            figures = [f"{row['ours']:,.0f}", f"{row['theirs']:,.0f}", f"{row['ratio']:.2f}"]
            figures.append(f"{row['ratio_min']:.2f} to {row['ratio_max']:.2f}")
        if "train_steps" in row:
            figures.append("–" if "missing" in row else f"{row['wall_ratio']:.2f} of {row['train_steps']:,} steps")
        sizes = "–" if "missing" in row else f"{row['num_envs']:,} : {row.get('peer_num_envs', row['num_envs']):,}"
        lines.append([f"`{row['id']}`", row["peer"], sizes, *figures])
    headings = ["Id", "Peer", "Environments", "Ours, steps/s", "Theirs, steps/s", "Ratio", "Range"]
    training = any("train_steps" in row for row in rows)
    return table([*headings, "Ratio with start-up"] if training else headings, lines)


def agents_table(rows):
    lines = []
    for row in rows:
        kwargs = ", ".join(f"{key}={value!r}" for key, value in row["kwargs"].items())
        speeds = f"{row['steps_per_second']:,.0f}", f"{row['steps_per_second_min']:,.0f} to {row['steps_per_second_max']:,.0f}"
        lines.append([f"`{row['id']}`", f"`{kwargs}`", f"{row['num_envs']:,}", row["agents"], *speeds])
    return table(["Id", "Setting", "Worlds", "Agents", "Steps/s of all agents", "Range"], lines)


def settings_table(rows):
    settings = list(dict.fromkeys((row["compile"], row["threads"]) for row in rows))
    speeds = {(row["num_envs"], row["compile"], row["threads"]): row["steps_per_second"] for row in rows}
    sizes = list(dict.fromkeys((row["num_envs"], row["minibatch"]) for row in rows))
    lines = [[f"{n:,}", f"{size:,}", *(f"{speeds[(n, *setting)]:,.0f}" for setting in settings)] for n, size in sizes]
    heads = [f"{'`--compile`' if compiled else 'eager'}, {n} thread{'s' if n > 1 else ''}" for compiled, n in settings]
    return "`agents/ppo.py` on FourRooms, steps per second:\n\n" + table(["Environments", "Minibatch", *heads], lines)


PARTS = {
    "ids": ("Every id", throughput_table),
    "compare": ("Beside peers", ratio_table),
    "envpool": ("Beside EnvPool, every task of Minigrid that both have", ratio_table),
    "jax": ("Beside peers in JAX", ratio_table),
    "agents": ("Several agents", agents_table),
    "train": ("Training", ratio_table),
    "settings": ("Settings of training", settings_table),
}


def section_suites(page):
    """What is stored of the suites: the scores of each agent, with its command."""
    from explore_gym.scripts.report import read_results, score_rows
    from explore_gym.scripts.suites import read_suite

    sections = []
    for path in sorted(THROUGHPUT.parent.glob("*/results.csv")):
        tasks, name = read_suite(path.parent.name, 1.0), path.parent.name
        results = read_results(path, tasks)
        commands = {result.agent: result.command for result in results}
        rows = [[f"`{agent}`", *scores, f"`{commands[agent]}`"] for agent, *scores in score_rows(tasks, results)]
        head = ["Agent", "All tasks", *(f"`{task.name}`" for task in tasks), "Command"]
        figures = "\n\n".join(f"![{name}: {figure}](benchmarks/{name}/{figure}.png)" for figure in ("tasks", "iqm"))
        sections.append(f"### The suite {name}\n\n{table(head, rows)}\n{figures}\n")
    return "\n".join(sections)


def section_flags(page):
    """The command line of the agent that a page is named after."""
    from explore_gym.agents import common

    module = importlib.import_module(f"explore_gym.agents.{page.stem}")
    shared = {field.name for field in dataclasses.fields(common.Args)}
    bases = [cls for cls in reversed(module.Args.__mro__) if dataclasses.is_dataclass(cls)]
    lines = {name: comment for cls in bases for name, comment in comments(inspect.getsource(cls)).items()}
    rows = []
    for field in sorted(dataclasses.fields(module.Args), key=lambda field: field.name in shared):
        choices = ", ".join(re.findall(r"'([\w-]+)'", str(field.type)))
        meaning = "; ".join(part for part in (choices, linked(lines.get(field.name, ""))) if part)
        default = "none" if field.default == "" else f"`{field.default}`"
        rows.append([f"`--{field.name.replace('_', '-')}`", default, meaning])
    return table(["Flag", "Default", "Meaning"], rows)


def comments(source):
    """The comment behind each field of a dataclass."""
    return dict(re.findall(r"^    (\w+): .*?  # (.+)$", source, re.MULTILINE))


SECTIONS = {name.removeprefix("section_"): f for name, f in globals().items() if name.startswith("section_")}


def id_of(page):
    return next(name for name in ENVIRONMENTS if page_of(name) == page)


def pages():
    """All pages with generated sections.

    Raises:
        FileNotFoundError: an id has no page.
    """
    for name in ENVIRONMENTS:
        if not page_of(name).exists():
            raise FileNotFoundError(f"{NAMESPACE}/{name} has no page: write {page_of(name)}, as docs/envs/river_swim.md is")
    candidates = [
        ROOT / "README.md",
        DOCS / "benchmark.md",
        DOCS / "benchmarks.md",
        *DOCS.glob("envs/*.md"),
        *DOCS.glob("agents/*.md"),
    ]
    return sorted(page for page in candidates if SECTION.search(page.read_text()))


def render(page):
    """A page's text with its sections as they should be."""
    return SECTION.sub(lambda match: match[1] + SECTIONS[match[2]](page) + match[3], page.read_text())


def play_random(env_id, kwargs, seed):
    """Means over the first episode of NUM_EPISODES lanes: return, of each agent where there are several, and coverage and
    success where the info has one for all.
    """
    env_seed, action_seed = np.random.SeedSequence(seed).generate_state(2)
    rng = np.random.default_rng(int(action_seed))
    envs = gym.make_vec(env_id, num_envs=NUM_EPISODES, autoreset_mode="SameStep", **kwargs)
    envs.reset(seed=int(env_seed))
    space = envs.single_action_space
    if isinstance(space, gym.spaces.Box):
        draw, low, high = rng.uniform, space.low, space.high
    else:
        draw, low, high = rng.integers, 0, space.nvec if isinstance(space, gym.spaces.MultiDiscrete) else space.n
    totals, playing = {"return": np.zeros(NUM_EPISODES)}, np.ones(NUM_EPISODES, bool)
    while playing.any():
        action = draw(low, high, size=(NUM_EPISODES, *space.shape)).astype(space.dtype)
        _, reward, terminated, truncated, info = envs.step(action)
        last = info["final_info"]
        totals["return"] += reward * playing
        for key, rewards in zip(AGENT_RETURNS, last["rewards"].T if "rewards" in last else ()):
            totals[key] = totals.get(key, 0.0) + rewards * playing
        ends = playing & (terminated | truncated)
        for key in {"coverage", "success"} & last.keys():
            if last[key].ndim == 1:
                totals.setdefault(key, np.zeros(NUM_EPISODES))[ends] = last[key][ends]
        playing &= ~ends
    return {key: round(float(values.mean()), 6) for key, values in totals.items()}


def play_planner(env):
    """Return and success of `xland.planner` in each of NUM_LAYOUTS episodes, of the seeds from 0 on."""
    scores = {"return": [], "success": []}
    for seed in range(NUM_LAYOUTS):
        env.reset(seed=seed)
        steps = [env.step(action) for action in (plan(env) or [])[: env.time_limit]]
        scores["return"].append(round(sum(reward for _, reward, *_ in steps), 6))
        scores["success"].append(float(bool(steps) and steps[-1][-1]["success"]))
    return scores


def play_driver(env_id, kwargs):
    """Return and success of Driving's scripted driver in the first episode of NUM_LAYOUTS lanes, of the seeds from 0 on."""
    envs = gym.make_vec(env_id, num_envs=NUM_LAYOUTS, autoreset_mode="SameStep", **kwargs).unwrapped
    returns, info = play(envs, RuleDriver(envs), seed=0)
    return {"return": returns.round(6).tolist(), "success": info["success"].astype(float).tolist()}


def play_explorers(env_id, kwargs):
    """Scores of each of the EXPLORERS over the first episode of NUM_LAYOUTS lanes, of the seeds from 0 on."""
    scores = {}
    for name, explorer in EXPLORERS.items():
        envs = gym.make_vec(env_id, num_envs=NUM_LAYOUTS, autoreset_mode="SameStep", **kwargs).unwrapped
        returns, info = play(envs, explorer(envs), seed=0)
        scores[name] = {key: (returns if key == "return" else info[key]).round(6).tolist() for key in EXPLORED}
    return scores


def solve(env):
    """Exact returns: a number each for "optimal" and "random" where it is known, or one "optimal" for each of many layouts.
    For coverage tasks, if moves don't slip, those of a greedy walk and what no walk exceeds. Nothing of TopoNav.
    """
    if isinstance(env, TopoNav) or (isinstance(env, WalkGrid) and env.slip > 0.0):
        return {}
    if isinstance(env, (WalkGrid, PointCoverage)):
        env.reset(seed=0)
        bound = {"bound": round(upper_bound(env), 6)} if isinstance(env, WalkGrid) else {}
        return {"greedy": round(greedy_walk(env)[0], 6), **bound}
    if hasattr(env, "optimal_value"):
        return {"optimal": round(env.optimal_value(), 6), "random": round(env.random_value(), 6)}
    if hasattr(env, "optimal_return"):
        return {"optimal": env.optimal_return}
    try:
        return {"optimal": [round(shortest_path_return(env, seed), 6) for seed in range(NUM_LAYOUTS)]}
    except ValueError as error:
        print(f"no exact return of {env.spec.id}: {error}")
        return {}


def shortest_path_return(env, seed):
    """The return of the fewest actions that lead from this seed's start to a reward."""
    env.reset(seed=seed)
    path = env.shortest_path(max_states=MAX_STATES)
    return 0.0 if path is None or len(path) > env.time_limit else sum(env.step(action)[1] for action in path)


def measure_scores(names):
    """Plays and solves the settings of these ids, of all if there are none, and stores each score when it is known."""
    stored = json.loads(SCORES.read_text())["settings"] if SCORES.exists() else []
    entries = {(entry["id"], json.dumps(entry["kwargs"])): entry for entry in stored}
    for name, kwargs in SETTINGS:
        if names and name not in names:
            continue
        env_id = f"{NAMESPACE}/{name}"
        played = [play_random(env_id, kwargs, seed) for seed in range(NUM_SEEDS)]
        random = {key: [means[key] for means in played] for key in sorted(played[0])}
        env = gym.make(env_id, **kwargs).unwrapped
        entry = {"id": env_id, "kwargs": kwargs, "random": random, "exact": solve(env)}
        if isinstance(env, XLand):
            entry["planner"] = play_planner(env)
        if isinstance(env, Driving):
            entry["planner"] = play_driver(env_id, kwargs)
        if isinstance(env, TopoNav):
            entry["explorers"] = play_explorers(env_id, kwargs)
        entries[env_id, json.dumps(kwargs)] = entry
        print(env_id, kwargs, {key: interval(values) for key, values in random.items()}, flush=True)
        order = [(f"{NAMESPACE}/{name}", json.dumps(kwargs)) for name, kwargs in SETTINGS]
        settings = [entries[key] for key in order if key in entries]
        content = {"episodes": NUM_EPISODES, "seeds": NUM_SEEDS, "settings": settings}
        SCORES.write_text(json.dumps(content, indent=1) + "\n")


def record_pictures(names):
    for name, arguments in PICTURES.items():
        if names and name not in names:
            continue
        record(name, arguments)
        for policy, others in POLICIES.get(name, {}).items():
            if others is not None:
                record(name, [*others, "--out", str(DOCS / "pictures" / f"{name}-{policy}")])


def record(name, arguments):
    command = [sys.executable, str(ROOT / "scripts" / "record.py"), "--env", f"{NAMESPACE}/{name}", *arguments]
    subprocess.run(command, check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    for flag, names in (("scores", [name for name, _ in SETTINGS]), ("pictures", list(PICTURES))):
        parser.add_argument(f"--{flag}", nargs="*", choices=list(dict.fromkeys(names)), metavar="ID")
    args = parser.parse_args()
    if args.scores is not None:
        measure_scores(args.scores)
    if args.pictures is not None:
        record_pictures(args.pictures)
    stale = False
    for page in pages():
        old, new = page.read_text(), render(page)
        if old == new:
            continue
        stale, name = True, str(page.relative_to(ROOT))
        if args.check:
            print("".join(difflib.unified_diff(old.splitlines(True), new.splitlines(True), name, f"{name}, generated")))
        else:
            page.write_text(new)
            print(f"rewrote {name}")
    sys.exit(args.check and stale)


if __name__ == "__main__":
    main()
