"""Killing real servers under load, and asking afterwards whether anything acknowledged is gone."""
