"""What is known of the GPU models on offer: price, node shape, network, trust; and what is assumed.

FACT: `reference_micro_usd`, the reference on-demand price per GPU-hour. The median of the firm (not spot)
offers of the model among the 310 offers of 21 providers of 2026-05-24 (tardellirs/gpu-pricing @ 8f09a68, MIT);
of all its offers where fewer than two are firm. As a check, the medians of the Prime Intellect snapshots of
2025-10-19..11-08 (tugot17/gpu-price-tracker @ 718a831, MIT) are, USD: H100 SXM 2.49, H100 PCIe 2.39,
A100-80GB 1.75 (SXM) and 1.64 (PCIe), H200 3.59, B200 5.69, GH200 1.49. The Full Stack Deep Learning table
of 2025-03 (the-full-stack/website @ 2bddc6d, MIT) is older and dearer (A100-80GB 2.73, H100 4.22).
Odd and left so: the 40 GB A100 is dearer than the 80 GB one, because other providers list it.

FACT: `max_tier`. Confidential computing needs Hopper or Blackwell data-centre GPUs, or the RTX PRO 6000, which
one provider lists as "CC". GeForce cards are kept out of SECURE: their driver licence bars data centres.

FACT: node shapes of T4 (884 of 901 nodes hold 2, the others 4: Alibaba openb 2023 and PAI 2020), A10 (1 per
node: Alibaba spot fleet 2026), V100 (8, 4, 1: openb, PAI); GB300 trays hold 4, GH200 boards 1.
ASSUMED: every other shape, after common instance types.

ASSUMED: `share`, the weight of a model in a network's GPUs. No open list of a large mixed network exists.
Known single fleets are narrower: Alibaba's spot fleet 2026 holds 33 % A100-80GB, 24 % A10, 17 % H800 of
10,412 GPUs (sultanul-ovi/GPU-Cluster-Spot-Resource-Dataset-Analysis @ 3a727e5); openb 2023 13 % T4 of 6,212.
The weights lean towards models that many providers offer in 2026.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.domain.tiers import Interconnect, SecurityTier

Shapes = tuple[tuple[int, float], ...]
"""(GPUs per node, share of the model's nodes)."""

ETHERNET, ROCE, INFINIBAND = Interconnect
COMMUNITY, VERIFIED, SECURE, CONFIDENTIAL = SecurityTier

HGX: Shapes = ((8, 0.92), (4, 0.05), (1, 0.03))
SERVER: Shapes = ((8, 0.45), (4, 0.30), (2, 0.15), (1, 0.10))
RIG: Shapes = ((8, 0.35), (4, 0.30), (2, 0.20), (1, 0.15))
DESKTOP: Shapes = ((4, 0.25), (2, 0.30), (1, 0.45))
V100_SHAPES: Shapes = ((8, 268 / 324), (4, 37 / 324), (1, 19 / 324))
T4_SHAPES: Shapes = ((2, 884 / 901), (4, 17 / 901))


@dataclass(frozen=True, slots=True)
class GpuModel:
    """One model by its canonical name."""

    name: str
    reference_micro_usd: int
    """Micro-USD per GPU-hour, on demand, at tier VERIFIED."""
    share: float
    """Weight of the model in the GPUs of the synthetic fleet; assumed."""
    shapes: Shapes
    fastest_interconnect: Interconnect
    """The fastest network between nodes that the model is sold with."""
    max_tier: SecurityTier
    """The highest tier that nodes of this model can reach."""
    alternatives: tuple[str, ...] = ()
    """Models a tenant of this one would also take, nearest first; assumed."""


GPU_MODELS: tuple[GpuModel, ...] = (
    GpuModel("GB300", 7_950_000, 1.5, ((4, 1.0),), INFINIBAND, CONFIDENTIAL, ("B300", "B200")),
    GpuModel("B300", 6_940_000, 1.5, HGX, INFINIBAND, CONFIDENTIAL, ("GB300", "B200")),
    GpuModel("B200", 5_260_000, 5.0, HGX, INFINIBAND, CONFIDENTIAL, ("B300", "H200")),
    GpuModel("H200", 3_470_000, 7.0, HGX, INFINIBAND, CONFIDENTIAL, ("H100", "B200")),
    GpuModel("GH200", 1_990_000, 0.8, ((1, 1.0),), INFINIBAND, CONFIDENTIAL, ("H100", "H100-NVL")),
    GpuModel("H100", 2_640_000, 17.0, HGX, INFINIBAND, CONFIDENTIAL, ("H200", "H100-NVL")),
    GpuModel("H100-NVL", 2_590_000, 1.0, SERVER, ROCE, CONFIDENTIAL, ("H100-PCIE", "H100")),
    GpuModel("H100-PCIE", 1_980_000, 3.0, SERVER, ROCE, CONFIDENTIAL, ("H100-NVL", "H100")),
    GpuModel("A100-80GB", 1_475_000, 13.0, HGX, INFINIBAND, SECURE, ("A800-80GB", "A100-40GB", "H100-PCIE")),
    GpuModel("A100-40GB", 1_745_000, 4.0, HGX, INFINIBAND, SECURE, ("A100-80GB",)),
    GpuModel("A800-80GB", 1_060_000, 1.0, HGX, INFINIBAND, SECURE, ("A100-80GB",)),
    GpuModel("MI300X", 1_990_000, 2.0, ((8, 1.0),), ROCE, SECURE, ("MI350X",)),
    GpuModel("MI350X", 4_400_000, 0.5, ((8, 1.0),), ROCE, SECURE, ("MI300X",)),
    GpuModel("L40S", 915_000, 5.0, SERVER, ROCE, SECURE, ("L40", "RTX6000ADA")),
    GpuModel("L40", 920_000, 1.5, SERVER, ROCE, SECURE, ("L40S", "A40")),
    GpuModel("L4", 440_000, 2.0, SERVER, ETHERNET, SECURE, ("T4", "A10")),
    GpuModel("A40", 845_000, 1.5, SERVER, ETHERNET, SECURE, ("RTXA6000", "L40")),
    GpuModel("A30", 295_000, 0.8, SERVER, ETHERNET, SECURE, ("A10", "L4")),
    GpuModel("A16", 471_000, 0.5, SERVER, ETHERNET, SECURE, ("T4",)),
    GpuModel("A10", 1_100_000, 1.5, ((1, 1.0),), ETHERNET, SECURE, ("L4", "A30")),
    GpuModel("T4", 660_000, 2.0, T4_SHAPES, ETHERNET, SECURE, ("L4", "A10")),
    GpuModel("V100", 160_000, 4.0, V100_SHAPES, INFINIBAND, SECURE, ("A100-40GB",)),
    GpuModel("P40", 70_000, 0.4, SERVER, ETHERNET, SECURE, ("T4",)),
    GpuModel("RTXPRO6000", 1_690_000, 2.0, SERVER, ROCE, CONFIDENTIAL, ("L40S", "RTX6000ADA")),
    GpuModel("RTX6000ADA", 770_000, 1.5, SERVER, ETHERNET, SECURE, ("L40S", "RTXA6000")),
    GpuModel("RTX4000ADA", 560_000, 0.5, RIG, ETHERNET, SECURE, ("RTXA4000",)),
    GpuModel("RTXA6000", 470_000, 3.0, SERVER, ETHERNET, SECURE, ("A40", "RTX6000ADA")),
    GpuModel("RTXA5000", 465_000, 1.5, RIG, ETHERNET, SECURE, ("RTXA6000", "RTX3090")),
    GpuModel("RTXA4000", 140_000, 1.0, RIG, ETHERNET, SECURE, ("RTX4000ADA",)),
    GpuModel("RTX5090", 625_000, 2.5, RIG, ETHERNET, VERIFIED, ("RTX4090",)),
    GpuModel("RTX5080", 340_000, 0.4, DESKTOP, ETHERNET, VERIFIED, ("RTX4080", "RTX5090")),
    GpuModel("RTX5070TI", 220_000, 0.3, DESKTOP, ETHERNET, VERIFIED, ("RTX5070",)),
    GpuModel("RTX5070", 145_000, 0.3, DESKTOP, ETHERNET, VERIFIED, ("RTX5070TI", "RTX4070")),
    GpuModel("RTX4090", 465_000, 5.0, RIG, ETHERNET, VERIFIED, ("RTX5090", "RTX3090")),
    GpuModel("RTX4080", 220_000, 0.6, DESKTOP, ETHERNET, VERIFIED, ("RTX5080", "RTX4090")),
    GpuModel("RTX4070TI", 190_000, 0.3, DESKTOP, ETHERNET, VERIFIED, ("RTX4070", "RTX4080")),
    GpuModel("RTX4070", 170_000, 0.4, DESKTOP, ETHERNET, VERIFIED, ("RTX4070TI", "RTX3080")),
    GpuModel("RTX4060TI", 105_000, 0.4, DESKTOP, ETHERNET, VERIFIED, ("RTX3060",)),
    GpuModel("RTX3090TI", 290_000, 0.4, RIG, ETHERNET, VERIFIED, ("RTX3090", "RTX4090")),
    GpuModel("RTX3090", 200_000, 3.0, RIG, ETHERNET, VERIFIED, ("RTX3090TI", "RTX4090")),
    GpuModel("RTX3080TI", 160_000, 0.3, DESKTOP, ETHERNET, VERIFIED, ("RTX3080", "RTX3090")),
    GpuModel("RTX3080", 85_000, 0.8, RIG, ETHERNET, VERIFIED, ("RTX3080TI", "RTX3090")),
    GpuModel("RTX3070", 70_000, 0.5, RIG, ETHERNET, VERIFIED, ("RTX3080",)),
    GpuModel("RTX3060", 65_000, 0.6, DESKTOP, ETHERNET, VERIFIED, ("RTX4060TI", "RTX3070")),
    GpuModel("RTX2080TI", 85_000, 0.3, RIG, ETHERNET, VERIFIED, ("RTX3070",)),
)

MODEL_INDEX: dict[str, int] = {model.name: index for index, model in enumerate(GPU_MODELS)}
"""Position of a canonical name in GPU_MODELS."""
