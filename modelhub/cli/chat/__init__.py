"""`modelhub chat`: send a message to a model or a chain, or hold a conversation with it."""
