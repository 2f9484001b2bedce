"""What a run leaves behind: its card and its folder."""
