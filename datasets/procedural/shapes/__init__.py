"""The twin of KeypointNet: one module per category, and what makes meshes, clouds and files of their designs."""
