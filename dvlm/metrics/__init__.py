"""Scores of captions: matching by geometry, descriptions, summaries, confidence intervals, box AP. No torch."""
