"""Joint planning: the best plan for many gangs at once, with prices that prove how good it is."""
