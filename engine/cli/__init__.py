"""The `walras` command: starts the engine, and asks a running one.

A command module holds signatures and imports nothing heavy; its work stands in modules that are imported when
the command runs (grpc, polars, numba and the service cost up to a second each). Answers go to stdout, all else
to stderr. Exit codes: 0 done, 1 the answer is no, 2 bad input, 3 the engine cannot be reached or failed.
"""
