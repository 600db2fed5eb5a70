"""One file for each library that searches; :mod:`pcsa.neighbors.backends.contract` says what such a file holds."""
