"""Gridworld environments."""
