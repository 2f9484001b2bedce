"""Batches and their augmented views."""
