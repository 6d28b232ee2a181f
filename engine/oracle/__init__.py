"""Prices from supply and demand: clearing, smoothing, forward curve, quotes, health. No clock, no I/O."""
