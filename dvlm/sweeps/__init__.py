"""Sweeps: what runs and sweeps say of themselves on disk, who holds a run directory, and how jobs are started."""
