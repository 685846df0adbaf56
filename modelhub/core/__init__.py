"""The seam: what a call is, what a model is, what comes back, and what can go wrong."""
