"""One file a layer: each takes a model and gives a model that does one thing more."""
