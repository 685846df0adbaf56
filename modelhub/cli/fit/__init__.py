"""`modelhub fit`: show which models of a chain take a call of a certain shape."""
