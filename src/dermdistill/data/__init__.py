"""Data: where images come from, how they are checked, split and packed, and how they are fed."""
