"""What every layer stands on: errors, atomic files, the lock."""
