"""Worlds to find the way in: continuous mazes and arms of behaviour search, landscapes with landmarks, roads."""
