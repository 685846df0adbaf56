"""`modelhub drill`: simulate faults of the models in a file, and show what callers would get."""
