"""The ticket lock."""
