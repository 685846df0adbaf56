"""The file: YAML text with positions in, validated options out, every problem at once."""
