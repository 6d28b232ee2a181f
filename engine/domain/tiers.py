"""Ordered grades of supply. The integer is the rank: a node qualifies if its rank is at least the wanted one."""

from __future__ import annotations

from enum import IntEnum


class SecurityTier(IntEnum):
    """How far a node's operator and hardware are trusted."""

    COMMUNITY = 0
    VERIFIED = 1
    SECURE = 2
    CONFIDENTIAL = 3


class ConnectivityTier(IntEnum):
    """Internet connection, download/upload Mbps: 100/10, 400/300, 800/600, 1600/1200."""

    LOW = 0
    MEDIUM = 1
    HIGH = 2
    ULTRA = 3


class Interconnect(IntEnum):
    """Network between the nodes of a site."""

    ETHERNET = 0
    ROCE = 1
    INFINIBAND = 2


class NodeState(IntEnum):
    """READY takes new work; DRAINING and DOWN do not."""

    READY = 0
    DRAINING = 1
    DOWN = 2
