"""Labels that people give to scans: what a click hits, what is proposed, the files, and the root that is trained on."""
