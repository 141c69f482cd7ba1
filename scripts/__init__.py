"""Command-line tools: each file runs alone."""
