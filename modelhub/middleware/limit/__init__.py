"""Rate limits: pools of requests, tokens and slots that models share."""
