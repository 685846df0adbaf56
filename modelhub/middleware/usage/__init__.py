"""What an answer cost, and the budgets it counts against."""
