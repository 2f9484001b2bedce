"""The official ISIC protocol: per image, by subgroup, between raters."""
