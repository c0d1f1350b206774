"""From the run directories of a sweep to a decision: reading, ranking, figures, a page, tables."""
