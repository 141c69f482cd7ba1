"""Worlds drawn with characters, and what they are after some steps."""

import numpy as np

from explore_gym.envs.xland.logic import NONE
from explore_gym.envs.xland.world import (
    BALL,
    BLACK,
    BLUE,
    CLOSED,
    FLOOR,
    GOAL,
    GREEN,
    GREY,
    GREY_WALL,
    KEY,
    LOCKED,
    OPAQUE,
    OPEN,
    PLAIN_FLOOR,
    PYRAMID,
    RED,
    SQUARE,
    tile,
)

RED_BALL, BLUE_BALL, GREEN_BALL = (BALL | color << 4 for color in (RED, BLUE, GREEN))
RED_SQUARE, RED_PYRAMID, BLUE_KEY, GREEN_GOAL = SQUARE | RED << 4, PYRAMID | RED << 4, KEY | BLUE << 4, GOAL | GREEN << 4
RED_FLOOR = FLOOR | RED << 4
TILES = {
    "r": RED_BALL, "b": BLUE_BALL, "g": GREEN_BALL, "s": RED_SQUARE, "p": RED_PYRAMID, "k": BLUE_KEY, "G": GREEN_GOAL,
    ",": RED_FLOOR, "+": CLOSED | GREY << 4, "_": OPEN | GREY << 4, "L": LOCKED | BLUE << 4,
}  # fmt: skip
HEADS = "^>v<"


def cell_code(char):
    """The cell that a character stands for; an agent stands on plain floor."""
    if char == "#":
        return GREY_WALL
    if char in " ^>v<":
        return PLAIN_FLOOR
    code = TILES[char] | (RED if char == "," else BLACK) << 8
    return code | OPAQUE if char in "+L" else code


def draw(env, rows, rules=(), goals=(), pockets=(), **fields):
    """Put an environment into the world of these rows, up to its size; agents are numbered in reading order.

    Args:
        rules: (kind, a, b, product) each.
        goals: for each agent its options, for each option its conditions (kind, negated, a, b).
        pockets: tiles that the agents carry.
    """
    state = env.get_state()
    height, width = state["grid"].shape
    grid = np.full((height, width), GREY_WALL, np.uint16)
    agents = []
    for row, line in enumerate(rows):
        for col, char in enumerate(line):
            grid[row, col] = cell_code(char)
            if char in HEADS:
                agents.append((row, col, HEADS.index(char)))
                grid[row, col] |= len(agents) << 12
    count = len(state["row"])
    assert len(agents) == count, f"{count} agents are needed, got {len(agents)}"
    rule_table, goal_table = np.zeros_like(state["rules"]), np.zeros_like(state["goals"])
    rule_table[: len(rules)] = np.array(rules).reshape(-1, 4)
    for i, options in enumerate(goals):
        for option, conditions in enumerate(options):
            goal_table[i, option, : len(conditions)] = conditions
    row, col, direction = np.array(agents).T
    fields = {"goal_nodes": -1, **fields}  # nothing has to be produced
    pocket = np.zeros(count, np.uint8)
    pocket[: len(pockets)] = pockets
    return env.set_state(
        grid=grid, row=row, col=col, direction=direction, pocket=pocket, rules=rule_table, num_rules=len(rules),
        goals=goal_table, t=0, trial=0, trial_start=0, done=False, **fields,
    )  # fmt: skip


def show(env, height, width):
    """The upper left part of the world in the same characters."""
    state = env.get_state()
    chars = {code: char for char, code in TILES.items()} | {tile(FLOOR, BLACK): " ", GREY_WALL & 255: "#"}
    agents = [" ", *(HEADS[direction] for direction in state["direction"])]
    codes = state["grid"][:height, :width].tolist()
    return ["".join(agents[code >> 12 & 7] if code >> 12 & 7 else chars[code & 255] for code in row) for row in codes]


def goal(*conditions):
    """One option of conditions (kind, negated, a, b)."""
    assert all(kind != NONE for kind, *_ in conditions)
    return [list(conditions)]
