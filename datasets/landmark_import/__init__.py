"""Scans and files of landmarks beside them, paired and checked, as a root in KeypointNet's layout."""
