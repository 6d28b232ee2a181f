"""Upper limits of every number and text that crosses a border.

They keep sums exact: gpu_count × price stays below 2^63, so no integer inside a solver can overflow.
"""

from __future__ import annotations

MAX_NODES = 2_000_000
MAX_GPUS_PER_NODE = 1_024
MAX_GPU_COUNT = 10_000_000
MAX_PRICE_MICRO_USD_PER_GPU_HOUR = 100_000_000_000
"""100,000 USD per GPU-hour; 10^7 GPUs at 10^11 micro-USD is 10^18."""
MAX_TOTAL_MICRO_USD = 2**63 - 1
"""A total travels as a signed 64-bit integer."""
MAX_DURATION_S = 10 * 365 * 24 * 3_600
MAX_RTT_MS = 60_000.0
MILLI_OF_GPU = 1_000
"""Thousandths that a whole GPU has."""
MAX_CPU_MILLI = 10_000_000_000
"""Ten million cores; above what a node has, so that it can be asked for and refused."""
MAX_MEMORY_MIB = 1_000_000_000_000
MAX_TEXT_LENGTH = 128
MAX_LIST_LENGTH = 1_000
MAX_CERTIFICATIONS = 62
"""Certifications are the bits of one signed 64-bit mask inside the solver."""
MAX_SUPPLIER_CERTIFICATIONS = 12
"""Kinds that a supplier brings in by itself: a fifth of the fleet's, so that none of them can take all."""
