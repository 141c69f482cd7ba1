"""Environments with few enough states for exact solutions."""
