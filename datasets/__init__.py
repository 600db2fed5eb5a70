"""Datasets of labelled clouds, all in KeypointNet's release layout."""
