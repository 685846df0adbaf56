"""Retries of one model."""
