"""Sampling sweeps: a study that several sweepers may share, and trials that end early."""
