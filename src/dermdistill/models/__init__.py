"""Networks: the student U-Nets, the teachers, their weights and how they are built by name."""
