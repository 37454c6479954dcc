"""Rewards as data: pure terms, and designs that weigh them."""

from __future__ import annotations

from mmzero_env.rewards.designs import DESIGNS, Constants, RewardDesign, get_design, register

__all__ = ["DESIGNS", "Constants", "RewardDesign", "get_design", "register"]
