"""Find images that training and test share: equal files, near-duplicates, other photographs of one lesion."""
