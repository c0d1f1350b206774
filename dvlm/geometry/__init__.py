"""Shapes in an image and what maps, clips and normalises them: numpy and shapely, no torch, no pixels."""
