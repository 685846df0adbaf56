"""Fallback chains: the first model that answers, and streams that restart."""
