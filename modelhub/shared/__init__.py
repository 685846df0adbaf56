"""Limits, cooldowns and budgets that several processes and machines share, in Redis or Valkey."""
