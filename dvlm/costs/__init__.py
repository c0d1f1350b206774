"""What a run costs before it runs: the real model and the real tuner, passed through one step without their numbers."""
