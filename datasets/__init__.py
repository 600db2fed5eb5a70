"""Datasets: labeled clouds in KeypointNet's release layout; images, volumes and scans in their own."""
