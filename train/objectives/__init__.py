"""Objectives: what one training step is, one for each family of generators."""
