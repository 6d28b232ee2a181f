"""Means over ten seeds that the authors of FGD published, percent of GPU capacity at 100 % and 130 % of demand.

Source: experiments/analysis/expected_results of hkust-adsl/kubernetes-scheduler-simulator @ 8f3d641.
"""

from __future__ import annotations

from collections.abc import Mapping

PUBLISHED: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "default": {
        "random": (86.30, 87.47),
        "dot product": (90.62, 90.85),
        "gpu packing": (91.78, 92.00),
        "best fit": (92.86, 93.08),
        "fgd": (95.23, 95.39),
    },
    "gpuspec33": {
        "random": (83.87, 86.46),
        "dot product": (79.82, 89.14),
        "gpu packing": (82.22, 93.22),
        "best fit": (80.40, 93.09),
        "fgd": (87.84, 94.55),
    },
}
