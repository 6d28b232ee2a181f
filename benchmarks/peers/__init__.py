"""Other ways to plan, on the same encoded problem as ours and scored by one scorer; see benchmarks/README.md.

A peer takes a problem in which nothing runs and the seconds it may use, and returns its placements. All are given
what ours works on (folded fleets, compiled kernels), so that they differ in what they decide, not in how well they
are written.
"""
