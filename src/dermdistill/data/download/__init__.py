"""Official archives: the catalogue, resumable transfers, unpacking."""
