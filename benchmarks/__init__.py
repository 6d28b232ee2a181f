"""What is measured, on which instances, beside which floor. `python -m benchmarks`; see README.md."""
