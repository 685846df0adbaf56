"""The time limit of a whole call."""
