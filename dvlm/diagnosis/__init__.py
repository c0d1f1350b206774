"""What a machine and its libraries must get right for training to be right, checked on a model, with numbers."""
