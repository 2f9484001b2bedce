"""Arms × seeds as one job: settings, cells, statistics, the result."""
