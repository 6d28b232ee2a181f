"""The Walras service: what calls, decides, stores and explains around the pure `solvers`."""
