"""`modelhub batch`: ask a model once for each row of a file."""
