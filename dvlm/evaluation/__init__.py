"""Evaluation of a checkpoint: losses, generated answers, scores, and the page that shows them."""
