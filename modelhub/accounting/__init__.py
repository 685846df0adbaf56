"""What calls used and cost: prices, records, totals, the ledger, budgets."""
