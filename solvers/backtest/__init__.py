"""Kernels of the back-test: one market that serves gangs at a posted price, and the bounds on its welfare."""
