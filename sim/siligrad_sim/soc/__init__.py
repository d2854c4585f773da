"""The system on chip simulated: its firmware, its model, and a training run that is checked."""
