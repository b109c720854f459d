"""Models side by side: the same prompts and seeds, the same measures, one report."""
