"""How good scores and maps are against ground truth."""
