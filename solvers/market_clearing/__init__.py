"""Exact prices of many markets that share buyers."""
