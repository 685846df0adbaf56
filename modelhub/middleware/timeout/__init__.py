"""The time limits of one attempt."""
