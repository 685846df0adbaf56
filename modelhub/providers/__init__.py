"""One file a vendor: pure encoding and decoding around one line of the official SDK."""
