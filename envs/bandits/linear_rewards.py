"""What the bandits with linear rewards share: draws on the sphere, their exact references and their picture."""

import math

import numpy as np

from explore_gym.envs.engine import kernel, normal


@kernel
def draw_direction(state, rows, row):
    """Fill rows[row] with a point that is uniform on the unit sphere."""
    total = 0.0
    for k in range(rows.shape[1]):
        rows[row, k] = normal(state)
        total += rows[row, k] * rows[row, k]
    for k in range(rows.shape[1]):
        rows[row, k] /= math.sqrt(total)


def expected_largest_normal(arms, points=200_001):
    """Expected maximum of so many standard normals."""
    x = np.linspace(-10.0, 10.0, points)
    cdf = np.concatenate(([0.0], np.cumsum(np.exp(-0.5 * x**2))))
    return float(x @ np.diff((cdf / cdf[-1]) ** arms))


def expected_largest_projection(arms, dimension, points=200_001):
    """Expected maximum of <x, theta> over so many independent x, uniform on the unit sphere, theta ~ N(0, I).

    One coordinate of x is sin(angle), the angle of density cos(angle)^(dimension - 2); the length of theta is chi distributed.
    """
    angle = np.linspace(-0.5 * np.pi, 0.5 * np.pi, points)
    cdf = np.concatenate(([0.0], np.cumsum(np.cos(angle) ** (dimension - 2))))
    length = math.sqrt(2.0) * math.exp(math.lgamma(0.5 * (dimension + 1)) - math.lgamma(0.5 * dimension))
    return float(np.sin(angle) @ np.diff((cdf / cdf[-1]) ** arms)) * length


def draw_means(canvas, means, action, reward, caption):
    """One bar per arm, its mean above or below the zero line, the best arm's gold; the last reward a white dot."""
    width = max(len(means), 24)
    bar = width / len(means)
    canvas.size(width, 9)
    canvas.rect(0, 0, width, 8, (24, 26, 38))
    for arm, mean in enumerate(means):
        top = 4.0 - min(max(float(mean), -4.0), 4.0)
        color = (240, 190, 60) if mean == max(means) else (90, 130, 200)
        canvas.rect(bar * arm + 0.1 * bar, min(top, 4.0), 0.8 * bar, max(abs(top - 4.0), 0.05), color, "#")
    canvas.line(0, 4.0, width, 4.0, (200, 200, 200), 0.05)
    if action >= 0:
        canvas.circle(bar * (action + 0.5), 4.0 - min(max(float(reward), -3.7), 3.7), 0.3, (255, 255, 255), "o")
    canvas.text(0.5, 8.2, caption, (30, 30, 30), 0.6)
