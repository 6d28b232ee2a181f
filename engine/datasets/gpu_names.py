"""From the names that sources use to the canonical ones of `gpu_models`.

Sources write "NVIDIA A100 SXM4 80GB", "A100 SXM" or "NVIDIA HGX H100"; some say the memory in the name, some
only beside it. Models that are one market are one name: SXM and NVLink forms of the H100 are `H100`, while
PCIe and NVL forms, which are sold apart, keep their own. All A100s are split by memory alone: the sources
name the form too rarely. Modified cards ("48 GB mod") are nobody's market and have no name here.
"""

from __future__ import annotations

from engine.datasets.gpu_models import MODEL_INDEX

_NOISE = ("NVIDIA", "AMD", "TESLA", "GEFORCE", "HGX", "(HIGH FREQ.)")
_CONTAINED = ("GB300", "B300", "GH200", "B200", "H200", "RTXPRO6000")
_SPELLINGS = {
    "A6000": "RTXA6000",
    "A800": "A800-80GB",
    "A80080G": "A800-80GB",
    "RTX6000PRO": "RTXPRO6000",
    "RTXPROA6000SE": "RTXPRO6000",
    "V100M16": "V100",
    "V100M32": "V100",
    "V100NVLINK": "V100",
    "V100SXM2": "V100",
}


def canonical_name(name: str, memory_gb: float | None = None) -> str | None:
    """The canonical name of a model named by a source, None where this package knows no such model."""
    text = _squeezed(name)
    if "MOD)" in text:
        return None
    found = _a100(text, memory_gb) or _h100(text) or _contained(text) or _SPELLINGS.get(text, text)
    return found if found in MODEL_INDEX else None


def _squeezed(name: str) -> str:
    text = name.upper()
    for word in _NOISE:
        text = text.replace(word, "")
    return "".join(text.replace("-", "").replace("_", "").split())


def _a100(text: str, memory_gb: float | None) -> str | None:
    if not text.startswith("A100"):
        return None
    large = "80GB" in text or (memory_gb or 0) >= 80
    return "A100-80GB" if large else "A100-40GB"


def _h100(text: str) -> str | None:
    if not text.startswith("H100"):
        return None
    if "PCIE" in text:
        return "H100-PCIE"
    return "H100-NVL" if text.endswith("NVL") else "H100"


def _contained(text: str) -> str | None:
    return next((model for model in _CONTAINED if text.startswith(model)), None)
