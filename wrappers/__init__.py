"""Wrappers for vector environments; a batch of one (`gym.make_vec(..., num_envs=1)`) wraps a single environment."""

from explore_gym.wrappers.brownian_distractors import BrownianDistractors
from explore_gym.wrappers.exploration_statistics import ExplorationStatistics
from explore_gym.wrappers.messages import MessageFeatures
from explore_gym.wrappers.meta_episodes import MetaEpisodes
from explore_gym.wrappers.noisy_tv import ControllableTV, RandomTV
from explore_gym.wrappers.reward_delay import DelayReward, SparseReward
from explore_gym.wrappers.step_counter import StepCounter
from explore_gym.wrappers.sticky_actions import StickyActions
from explore_gym.wrappers.visit_counts import VisitCounts

__all__ = [
    "BrownianDistractors",
    "ControllableTV",
    "DelayReward",
    "ExplorationStatistics",
    "MessageFeatures",
    "MetaEpisodes",
    "RandomTV",
    "SparseReward",
    "StepCounter",
    "StickyActions",
    "VisitCounts",
]
