"""Panels of pictures and charts, drawn by matplotlib."""
