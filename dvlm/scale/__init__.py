"""One run on many ranks: who starts them, how weights are spread over them, and what happens when one is lost."""
