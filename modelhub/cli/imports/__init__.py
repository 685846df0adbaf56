"""`modelhub import`: translate another library's configuration into a file."""
