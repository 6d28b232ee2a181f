"""Each file leads from the layout before it to the one that it names."""
