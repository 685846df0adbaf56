"""`modelhub drill`: play faults against a file and show what users would see."""
