"""Training: one trainer, recipes as functions, objectives as modules."""
