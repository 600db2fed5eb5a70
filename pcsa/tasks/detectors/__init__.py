"""Trained networks as functions: from a cloud, an image, a volume or a scan to keypoints; see :func:`pcsa.load`."""
