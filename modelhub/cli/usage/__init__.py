"""`modelhub usage`: show what calls used and cost, as tables or a page."""
