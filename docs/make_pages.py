"""Fill the generated sections of README.md and of the pages in docs/ from what the code and the stored data say.

A section lies between `<!-- generated: its name -->` and `<!-- end -->`; the rest of a page is written by hand.

    python docs/make_pages.py               # rewrite the sections
    python docs/make_pages.py --check       # write nothing, exit 1 if a page differs from what would be written
    python docs/make_pages.py --scores      # play and solve the environments again (docs/envs/scores.json), then rewrite
    python docs/make_pages.py --pictures    # record docs/pictures again, then rewrite
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

from explore_gym.envs import ENVIRONMENTS, NAMESPACE
from explore_gym.envs.gridworlds.grid import GREEN_GOAL, GREY_WALL

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SCORES = DOCS / "envs" / "scores.json"
THROUGHPUT = DOCS / "benchmarks" / "throughput.json"
SECTION = re.compile(r"(<!-- generated: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)

LINE_LENGTH = 128
NUM_EPISODES, NUM_SEEDS = 1000, 10  # random policy: episodes per seed
STUDENT = 2.262  # 97.5 % point of Student's t with NUM_SEEDS - 1 degrees of freedom
NUM_LAYOUTS = 100  # episodes solved exactly where each has a layout of its own

# Settings whose scores are stored: the defaults, and those of the literature or with an exact reference of their own
SETTINGS = [
    ("MetaBandit-v0", {}),
    ("MetaBandit-v0", {"family": "bernoulli"}),
    ("MetaBandit-v0", {"safe_arm": 0.5}),
    ("DeepSea-v0", {}),
    ("DeepSea-v0", {"size": 20}),
    ("DeepSea-v0", {"size": 50}),
    ("DeepSea-v0", {"deterministic": False}),
    ("RiverSwim-v0", {}),
    ("RiverSwim-v0", {"size": 12, "max_steps": 100}),
    ("FourRooms-v0", {}),
    ("FourRooms-v0", {"size": 9}),
    ("MazeRooms-v0", {}),
]

# Arguments of scripts/record.py; an exact model, which the optimal policy needs, doesn't exist of Gaussian bandits
PICTURES = {
    "MetaBandit-v0": ["--policy", "random", "--steps", "30", "--fps", "4"],
    "DeepSea-v0": ["--policy", "optimal", "--steps", "20", "--fps", "4"],
    "RiverSwim-v0": ["--policy", "optimal", "--steps", "40"],
    "FourRooms-v0": ["--policy", "optimal", "--steps", "60"],
    "MazeRooms-v0": ["--policy", "optimal", "--steps", "180", "--fps", "20"],
}


def environment_class(name):
    """The class behind an id without its namespace."""
    module, _, cls = ENVIRONMENTS[name][0].partition(":")
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
    text = text.replace("|", r"\|").replace("<", "&lt;").replace("__", r"\_\_")
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(str(cell) for cell in line) + " |\n" for line in lines)


def section_description(page):
    """Picture, sentence, id, the table of the module docstring and its paragraphs."""
    name = id_of(page)
    cls = environment_class(name)
    title, rows, paragraphs = split_docstring(inspect.getmodule(cls).__doc__)
    sentence = title.partition(": ")[2]
    policy = PICTURES[name][1]
    picture = f"![{cls.__name__}, played by the {policy} policy](../pictures/{name}.gif)"
    body = table(["", ""], [[f"**{key}**", linked(text)] for key, text in rows])
    head = [picture, sentence[0].upper() + sentence[1:], f"Id: `{NAMESPACE}/{name}`", body.rstrip("\n")]
    return "\n\n".join(head + [linked(paragraph) for paragraph in paragraphs]) + "\n"


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
    """Random and optimal scores of the stored settings."""
    name, rows = id_of(page), []
    for entry in json.loads(SCORES.read_text())["settings"]:
        if entry["id"] == f"{NAMESPACE}/{name}":
            kwargs = ", ".join(f"{key}={value!r}" for key, value in entry["kwargs"].items()) or "defaults"
            random, exact = entry["random"], entry["exact"]
            measured = {key: interval(values) for key, values in random.items()}
            expected = f"{exact['random']:.4g}" if "random" in exact else "–"
            optimal = exact["optimal"]
            optimal = interval(optimal) if isinstance(optimal, list) else f"{optimal:.4g}"
            extra = [measured.get(key, "–") for key in ("coverage", "success")]
            rows.append([f"`{kwargs}`" if entry["kwargs"] else kwargs, measured["return"], expected, optimal, *extra])
    head = ["Setting", "Random, played", "Random, exact", "Optimal, exact", "Coverage (random)", "Success (random)"]
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
        rows.append([link, family, purpose(name), space(env.observation_space), space(env.action_space), reference(env)])
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


def reference(env):
    """Which exact scores an environment offers."""
    known = [f"`{name}`" for name in ("optimal_value()", "random_value()") if hasattr(env, name.removesuffix("()"))]
    if hasattr(env, "optimal_return"):
        known.append("`optimal_return`")
    return ", ".join(known) or "by layout, `to_tabular()`"


def section_speed(page):
    """README's figures: one line per id, in millions of steps per second."""
    if not THROUGHPUT.exists():
        return f"No figures are stored yet: `{throughput_command()}` measures and stores them.\n"
    content = json.loads(THROUGHPUT.read_text())
    return f"{throughput_table(content)}\n{machine(content)}\n"


def section_throughput(page):
    """All stored figures: ids, peers, training."""
    if not THROUGHPUT.exists():
        return f"No figures are stored yet: `{throughput_command()}` measures and stores them.\n"
    content = json.loads(THROUGHPUT.read_text())
    parts = [machine(content), "## Every id\n\n" + throughput_table(content)]
    for part, title in (("compare", "Beside peers"), ("train", "Training")):
        rows = [row for row in content["rows"] if row["part"] == part]
        if rows:
            parts.append(f"## {title}\n\n{ratio_table(rows)}")
    return "\n".join(parts)


def throughput_command():
    return "python scripts/throughput.py --full"


def machine(content):
    what, settings = content["machine"], content["settings"]
    versions = ", ".join(f"{name} {version}" for name, version in what["versions"].items())
    copy = "fresh arrays" if settings["copy"] else "shared buffers"
    return (
        f"Measured on {what['date']} with `{content['command']}` on {what['cores']} cores of {what['cpu']} "
        f"({versions}): {settings['num_threads']} thread, {copy}, median of {settings['rounds']} rounds.\n"
    )


def throughput_table(content):
    rows = [row for row in content["rows"] if row["part"] == "ids"]
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
        if "wall_ratio" in row:
            figures.append(f"{row['wall_ratio']:.2f} of {row['train_steps']:,} steps")
        sizes = "–" if "missing" in row else f"{row['num_envs']:,} : {row.get('peer_num_envs', row['num_envs']):,}"
        lines.append([f"`{row['id']}`", row["peer"], sizes, *figures])
    headings = ["Id", "Peer", "Environments", "Ours, steps/s", "Theirs, steps/s", "Ratio", "Range"]
    training = any("wall_ratio" in row for row in rows)
    return table([*headings, "Ratio with start-up"] if training else headings, lines)


def section_flags(page):
    """The command line of the agent that a page is named after."""
    from explore_gym.agents import common

    module = importlib.import_module(f"explore_gym.agents.{page.stem}")
    shared = {field.name for field in dataclasses.fields(common.Args)}
    lines = {**comments(inspect.getsource(common.Args)), **comments(inspect.getsource(module.Args))}
    rows = []
    for field in sorted(dataclasses.fields(module.Args), key=lambda field: field.name in shared):
        choices = ", ".join(re.findall(r"'(\w+)'", str(field.type)))
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
    candidates = [ROOT / "README.md", DOCS / "benchmarks.md", *DOCS.glob("envs/*.md"), *DOCS.glob("agents/*.md")]
    return sorted(page for page in candidates if SECTION.search(page.read_text()))


def render(page):
    """A page's text with its sections as they should be."""
    return SECTION.sub(lambda match: match[1] + SECTIONS[match[2]](page) + match[3], page.read_text())


def play_random(env_id, kwargs, seed):
    """Means over the first episode of NUM_EPISODES lanes: return, and coverage and success where the info has them."""
    env_seed, action_seed = np.random.SeedSequence(seed).generate_state(2)
    rng = np.random.default_rng(int(action_seed))
    envs = gym.make_vec(env_id, num_envs=NUM_EPISODES, autoreset_mode="SameStep", **kwargs)
    envs.reset(seed=int(env_seed))
    totals, playing = {"return": np.zeros(NUM_EPISODES)}, np.ones(NUM_EPISODES, bool)
    while playing.any():
        _, reward, terminated, truncated, info = envs.step(rng.integers(envs.single_action_space.n, size=NUM_EPISODES))
        totals["return"] += reward * playing
        ends = playing & (terminated | truncated)
        for key in {"coverage", "success"} & info["final_info"].keys():
            totals.setdefault(key, np.zeros(NUM_EPISODES))[ends] = info["final_info"][key][ends]
        playing &= ~ends
    return {key: round(float(values.mean()), 6) for key, values in totals.items()}


def solve(env):
    """Exact returns: a number each for "optimal" and "random" where it is known, or one "optimal" for each of many layouts."""
    if hasattr(env, "optimal_value"):
        return {"optimal": round(env.optimal_value(), 6), "random": round(env.random_value(), 6)}
    if hasattr(env, "optimal_return"):
        return {"optimal": env.optimal_return}
    return {"optimal": [round(shortest_path_return(env, seed), 6) for seed in range(NUM_LAYOUTS)]}


def shortest_path_return(env, seed):
    """Minigrid's reward after the fewest steps from this seed's start to the goal."""
    env.reset(seed=seed)
    steps = fewest_steps(env.get_state())
    return 1.0 - 0.9 * steps / env.time_limit if steps <= env.time_limit else 0.0


def fewest_steps(state):
    """Turns and moves from a gridworld's pose to its goal: breadth-first search over (row, col, direction)."""
    start = int(state["row"]), int(state["col"]), int(state["direction"])
    distances, queue = {start: 0}, [start]
    for row, col, direction in queue:
        if state["grid"][row, col] == GREEN_GOAL:
            return distances[row, col, direction]
        down, right = ((0, 1), (1, 0), (0, -1), (-1, 0))[direction]
        ahead = row + down, col + right, direction
        turns = [(row, col, (direction + turn) % 4) for turn in (1, 3)]
        for pose in turns if state["grid"][ahead[:2]] == GREY_WALL else [ahead, *turns]:
            if pose not in distances:
                distances[pose] = distances[row, col, direction] + 1
                queue.append(pose)
    raise ValueError(f"no way leads to the goal from {start}")


def measure_scores():
    """Plays and solves every setting and stores the scores."""
    entries = []
    for name, kwargs in SETTINGS:
        env_id = f"{NAMESPACE}/{name}"
        played = [play_random(env_id, kwargs, seed) for seed in range(NUM_SEEDS)]
        random = {key: [means[key] for means in played] for key in sorted(played[0])}
        exact = solve(gym.make(env_id, **kwargs).unwrapped)
        entries.append({"id": env_id, "kwargs": kwargs, "random": random, "exact": exact})
        print(env_id, kwargs, {key: interval(values) for key, values in random.items()})
    content = {"episodes": NUM_EPISODES, "seeds": NUM_SEEDS, "settings": entries}
    SCORES.write_text(json.dumps(content, indent=1) + "\n")


def record_pictures():
    for name, arguments in PICTURES.items():
        command = [sys.executable, str(ROOT / "scripts" / "record.py"), "--env", f"{NAMESPACE}/{name}", *arguments]
        subprocess.run(command, check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("check", "scores", "pictures"):
        parser.add_argument(f"--{flag}", action="store_true")
    args = parser.parse_args()
    if args.scores:
        measure_scores()
    if args.pictures:
        record_pictures()
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
