"""From checkpoint to answers: structured decoding, the engine, and what reads and writes files around it."""
