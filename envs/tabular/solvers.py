"""Exact solutions of finite Markov decision processes given as arrays.

P (S, A, S) are transition probabilities. A row may sum to less than 1: the rest is the probability that the task ends,
after which nothing is earned or paid. R (S, A) are expected rewards. Policies are int (S,), one action per state, or
float (S, A), action probabilities.
"""

import numpy as np

MAX_SWEEPS = 1_000_000


def check_model(P, R=None):
    """P and R as float64 arrays.

    Raises:
        ValueError: shapes disagree, a probability is negative, a row sums to more than 1, or a number isn't finite.
    """
    P = np.asarray(P, np.float64)
    if P.ndim != 3 or P.shape[0] != P.shape[2] or 0 in P.shape:
        raise ValueError(f"P must have shape (S, A, S), got {P.shape}")
    if not np.isfinite(P).all() or P.min() < 0.0:
        raise ValueError(f"P must be finite and >= 0, got {P[~np.isfinite(P) | (P < 0.0)][0]}")
    if P.sum(-1).max() > 1.0 + 1e-9:
        raise ValueError(f"rows of P must sum to at most 1, got {P.sum(-1).max()}")
    if R is None:
        return P
    R = np.asarray(R, np.float64)
    if R.shape != P.shape[:2]:
        raise ValueError(f"R must have shape {P.shape[:2]} as P has {P.shape}, got {R.shape}")
    if not np.isfinite(R).all():
        raise ValueError(f"R must be finite, got {R[~np.isfinite(R)][0]}")
    return P, R


def check_policy(policy, shape):
    """The policy as float64 (S, A) action probabilities.

    Raises:
        ValueError: it is neither one action per state nor a distribution over actions for each.
    """
    policy = np.asarray(policy)
    if policy.shape == shape[:1] and policy.dtype.kind in "iu":
        if policy.min() < 0 or policy.max() >= shape[1]:
            raise ValueError(f"actions of a policy must lie in [0, {shape[1]}), got {policy}")
        return np.eye(shape[1])[policy]
    if policy.shape != shape or policy.min() < 0.0 or np.abs(policy.sum(-1) - 1.0).max() > 1e-9:
        raise ValueError(f"a policy must be integers {shape[:1]} or probabilities {shape}, got {policy}")
    return policy.astype(np.float64)


def check_count(name, value):
    if not (isinstance(value, (int, np.integer)) and value >= 0):
        raise ValueError(f"{name} must be an integer >= 0, got {value!r}")


def value_iteration(P, R, gamma, tolerance=1e-10, max_sweeps=MAX_SWEEPS):
    """Optimal discounted values (S,) and a greedy policy int (S,).

    Sweeps until no value changes by `tolerance`; gamma = 1 is for tasks that end.

    Raises:
        ValueError: bad arrays, or gamma outside [0, 1].
        RuntimeError: no convergence in max_sweeps, as happens with gamma = 1 and no end in reach.
    """
    P, R = check_model(P, R)
    if not 0.0 <= gamma <= 1.0:
        raise ValueError(f"gamma must lie in [0, 1], got {gamma!r}")
    values = np.zeros(len(R))
    for _ in range(max_sweeps):
        q_values = R + gamma * (P @ values)
        change = np.abs(q_values.max(1) - values).max()
        values = q_values.max(1)
        if change < tolerance:
            return values, q_values.argmax(1)
    raise RuntimeError(f"value iteration hasn't reached tolerance {tolerance} in {max_sweeps} sweeps")


def finite_horizon(P, R, horizon, gamma=1.0):
    """Optimal values (horizon + 1, S) and policy int (horizon, S), by steps already taken; values[horizon] is 0.

    Raises:
        ValueError: bad arrays, or the horizon isn't an integer >= 0.
    """
    P, R = check_model(P, R)
    check_count("horizon", horizon)
    values, policy = np.zeros((horizon + 1, len(R))), np.zeros((horizon, len(R)), int)
    for t in reversed(range(horizon)):
        q_values = R + gamma * (P @ values[t + 1])
        values[t], policy[t] = q_values.max(1), q_values.argmax(1)
    return values, policy


def policy_evaluation(P, R, policy, gamma=1.0, horizon=None):
    """Values (S,) of a policy: over `horizon` steps, or (None) for ever, by a linear solve.

    Raises:
        ValueError: bad arrays or policy, or without discount the policy doesn't come to an end from every state.
    """
    P, R = check_model(P, R)
    policy = check_policy(policy, R.shape)
    transitions, rewards = np.einsum("sa,sat->st", policy, P), (policy * R).sum(1)
    if horizon is None:
        if gamma >= 1.0 and not ends(transitions).all():
            raise ValueError(f"with gamma={gamma} values are unbounded: the policy has no end from states {loops(transitions)}")
        return np.linalg.solve(np.eye(len(R)) - gamma * transitions, rewards)
    check_count("horizon", horizon)
    values = np.zeros(len(R))
    for _ in range(horizon):
        values = rewards + gamma * transitions @ values
    return values


def ends(transitions):
    """bool (S,): whether a chain (S, S) whose rows sum to at most 1 can come to its end from a state."""
    can_end = transitions.sum(1) < 1.0 - 1e-12
    for _ in range(len(transitions)):
        can_end |= (transitions[:, can_end] > 0.0).any(1)
    return can_end


def loops(transitions):
    return np.flatnonzero(~ends(transitions)).tolist()


def shortest_path(P, goals, costs=None):
    """Stochastic shortest path to a goal set: expected cost (S,) of the best policy, and that policy, int (S,).

    The cost is 0 at goals and infinite where no policy reaches a goal with probability 1; a task that ends elsewhere hasn't
    reached it. By policy iteration, each step of which is a linear solve, so that the result is exact up to rounding.

    Args:
        goals: states, ints, or a bool (S,) mask.
        costs: (S, A) of each step, > 0; None: 1, so that the values are expected numbers of steps.
    Raises:
        ValueError: bad arrays, no goal or one that isn't a state, or a cost that isn't positive.
    """
    P = check_model(P)
    num_states, num_actions, _ = P.shape
    costs = np.ones((num_states, num_actions)) if costs is None else check_model(P, costs)[1]
    if costs.min() <= 0.0:
        raise ValueError(f"costs must be > 0, got {costs.min()}")
    is_goal = goal_mask(goals, num_states)
    allowed, policy = proper_policy(P, is_goal)
    values = np.where(is_goal, 0.0, np.inf)
    inside = np.flatnonzero(allowed.any(1) & ~is_goal)
    if not len(inside):
        return values, policy
    step_costs = np.where(allowed, costs, np.inf)[inside]
    between = P[inside][:, :, inside]  # the rest of an allowed row leads to goals
    choice, rows = policy[inside], np.arange(len(inside))
    while True:
        inner = np.linalg.solve(np.eye(len(inside)) - between[rows, choice], step_costs[rows, choice])
        q_values = step_costs + between @ inner
        better = q_values.min(1) < q_values[rows, choice] - 1e-12 * np.maximum(1.0, inner)
        if not better.any():
            break
        choice = np.where(better, q_values.argmin(1), choice)
    values[inside], policy[inside] = inner, choice
    return values, policy


def goal_mask(goals, num_states):
    """bool (S,) from states or a mask."""
    goals = np.asarray(goals)
    if goals.dtype == np.bool_ and goals.shape == (num_states,):
        is_goal = goals.copy()
    elif goals.dtype.kind in "iu" and goals.size and goals.min() >= 0 and goals.max() < num_states:
        is_goal = np.isin(np.arange(num_states), goals)
    else:
        raise ValueError(f"goals must be states in [0, {num_states}) or a bool mask ({num_states},), got {goals}")
    if not is_goal.any():
        raise ValueError("goals must contain at least one state, got none")
    return is_goal


def proper_policy(P, is_goal):
    """Which actions (bool (S, A)) never leave the states that reach a goal for sure, and a policy that gets there.

    Shrinks the set of candidate states until each of them can reach a goal with actions that stay among candidates.
    """
    whole = P.sum(-1) > 1.0 - 1e-9
    candidates = np.ones(len(P), bool)
    while True:
        allowed = whole & ~(P[:, :, ~candidates] > 0.0).any(-1)
        reached, policy = is_goal.copy(), np.zeros(len(P), int)
        while True:
            closer = allowed & (P[:, :, reached] > 0.0).any(-1)
            new = closer.any(1) & ~reached
            if not new.any():
                break
            policy[new] = closer[new].argmax(1)
            reached |= new
        if (reached == candidates).all():
            return allowed & candidates[:, None], policy
        candidates = reached


def average_reward(P, R, tolerance=1e-10, max_sweeps=MAX_SWEEPS):
    """Best reward per step, bias (S,) with bias[0] = 0, and policy int (S,), by relative value iteration.

    Half of each update stays where it is, which leaves the gain as it is and rules out periodic chains.

    Raises:
        ValueError: bad arrays, or a row of P sums to less than 1.
        RuntimeError: no convergence in max_sweeps, as happens where the gain depends on the state one starts from.
    """
    P, R = check_model(P, R)
    if P.sum(-1).min() < 1.0 - 1e-9:
        raise ValueError(f"the average reward needs a task that never ends, but a row of P sums to {P.sum(-1).min()}")
    bias = np.zeros(len(R))
    for _ in range(max_sweeps):
        q_values = R + P @ bias
        change = q_values.max(1) - bias
        if np.ptp(change) <= tolerance:
            return float(change.max() + change.min()) / 2.0, bias, q_values.argmax(1)
        bias = bias + 0.5 * (change - change[0])
    raise RuntimeError(f"relative value iteration hasn't reached tolerance {tolerance} in {max_sweeps} sweeps")


def diameter(P):
    """Largest expected number of steps that the fastest policy needs from one state to another; inf if not communicating.

    Raises:
        ValueError: bad array.
    """
    P = check_model(P)
    return float(max(shortest_path(P, [goal])[0].max() for goal in range(len(P))))
