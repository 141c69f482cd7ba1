"""The text tasks for `verifiers`, which looks environments up by the name of a top-level module."""

from explore_gym.wrappers.verifiers import ChatHarness, TextEnv, TextTaskset

__all__ = ["ChatHarness", "TextEnv", "TextTaskset"]
