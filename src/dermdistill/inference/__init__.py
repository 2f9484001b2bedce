"""Picture in, mask out: the predictor and all that it needs. No torch."""
