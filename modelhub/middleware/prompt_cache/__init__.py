"""Marks for the vendors' prompt caches."""
