"""Worlds to plan in: importers of public data and seeded generators.

A world is three tables in the columns of the contract: a fleet, measured RTTs and cluster requests. The
synthetic world needs nothing but the facts written in this package; the real world resamples public node
lists, price lists, region coordinates, ping measurements and job traces, and draws what no trace carries.
Both are built by the same three steps:

    sites ──► facilities (a supplier at a site) ──► lots (like nodes of a facility) ──► nodes

Nodes of a lot share everything but price noise, reliability and occupation, as in a data centre, so that a
million GPUs fold into some ten thousand pools and not into a million different things.

Same seed and inputs, same bytes: each step draws from its own PCG64 stream, so that a further draw in one
step leaves the others as they were.
"""
