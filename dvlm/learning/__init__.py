"""Losses, optimisers, and the LightningModules of SFT and GKD."""
