"""The circuit breaker of one model."""
