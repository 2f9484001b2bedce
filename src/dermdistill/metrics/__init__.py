"""Scores of a mask: overlap, boundary, calibration; and the paired tests between them."""
