"""Small pictures of states, for searches that learn what behaviours are from what their ends look like.

Kernels paint into frames, uint8 (size, size, 3), in units of pixels; (0, 0) is the upper left corner of the first one. Whatever
isn't painted is exactly WHITE, so that nothing but the world itself surprises.
"""

import numpy as np

from explore_gym.envs.bandits.checks import check_integer
from explore_gym.envs.engine import kernel

WHITE, WALL, GOAL, BODY = (255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 0, 255)
DISTRACTOR = 8  # a square's side is the picture's over this


@kernel
def disc(frame, x, y, radius, color):
    """Paint the pixels whose centres are within radius of (x, y), at least the one at (x, y)."""
    size = len(frame)
    for i in range(max(int(y - radius), 0), min(int(y + radius) + 1, size)):
        for j in range(max(int(x - radius), 0), min(int(x + radius) + 1, size)):
            if (j + 0.5 - x) ** 2 + (i + 0.5 - y) ** 2 <= radius * radius or (i == int(y) and j == int(x)):
                for channel in range(3):
                    frame[i, j, channel] = color[channel]


@kernel
def line(frame, x0, y0, x1, y1, color):
    """Paint the pixels at points of a line that are at most half a pixel apart."""
    size = len(frame)
    points = int(2.0 * max(abs(x1 - x0), abs(y1 - y0))) + 2
    for point in range(points):
        share = point / (points - 1)
        i, j = int(y0 + share * (y1 - y0)), int(x0 + share * (x1 - x0))
        if 0 <= i < size and 0 <= j < size:
            for channel in range(3):
                frame[i, j, channel] = color[channel]


@kernel
def squares(frames, corners, side, colors):
    """Paint squares: corners (frames, k, 2), x and y of the upper left ones; colors (frames, k, 3)."""
    for n in range(len(frames)):
        for k in range(corners.shape[1]):
            left, top = corners[n, k, 0], corners[n, k, 1]
            for i in range(top, top + side):
                for j in range(left, left + side):
                    for channel in range(3):
                        frames[n, i, j, channel] = colors[n, k, channel]


def background(size, is_wall, goals, to_pixels):
    """A frame with the walls, and the goals (x, y, radius) that are given.

    Args:
        is_wall: function of arrays x and y of pixels' centres, 0 to 1, that says where the walls are.
        to_pixels: factor from the goals' units to pixels.
    """
    check_integer("size", size, 8, 1024)
    centres = (np.arange(size) + 0.5) / size
    frame = np.full((size, size, 3), WHITE, np.uint8)
    for x, y, radius in goals:
        disc(frame, x * to_pixels, y * to_pixels, radius * to_pixels, np.array(GOAL, np.uint8))
    frame[is_wall(*np.meshgrid(centres, centres))] = WALL
    return frame


def copies(frame, count, distractors, seed):
    """Frames to paint on, (count, size, size, 3), each with squares of its own in random places."""
    check_integer("distractors", distractors, 0, 64)
    size = len(frame)
    frames = np.repeat(frame[None], count, 0)
    if distractors:
        rng, side = np.random.default_rng(seed), max(size // DISTRACTOR, 1)
        corners = rng.integers(size - side + 1, size=(count, distractors, 2))
        squares(frames, corners, side, rng.integers(256, size=(count, distractors, 3), dtype=np.uint8))
    return frames
