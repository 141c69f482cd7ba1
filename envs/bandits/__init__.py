"""Bandit environments."""
