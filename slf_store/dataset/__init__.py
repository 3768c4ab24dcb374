"""Source trees: official VoxCeleb2, plain folders, and the synthetic sample."""
