"""Rollouts, GRPO, the evolve loop, its command line and its report."""
