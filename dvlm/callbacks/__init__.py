"""What watches a run: progress, pictures, checkpoints, throughput, loggers."""
