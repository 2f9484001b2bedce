"""Train a teacher or a student, distil one into the other."""
