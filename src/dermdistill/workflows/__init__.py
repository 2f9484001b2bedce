"""Whole jobs made of stages: demo, release, model card."""
