"""Frozen values, units and errors that every other part of the engine may use."""
