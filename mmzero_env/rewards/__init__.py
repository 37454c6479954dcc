"""Rewards as data: pure terms, and designs that weigh them."""

from __future__ import annotations

from mmzero_env.rewards.constants import Constants
from mmzero_env.rewards.design import RewardDesign
from mmzero_env.rewards.designs import DESIGNS, get_design, register
from mmzero_env.rewards.roles import register_term

__all__ = ["DESIGNS", "Constants", "RewardDesign", "get_design", "register", "register_term"]
