"""Augmentation: each op draws its parameters without pixels; the pipeline renders once."""
