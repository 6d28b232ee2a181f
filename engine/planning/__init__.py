"""Joint re-planning: files in, the best plan that can be proven, files out."""
