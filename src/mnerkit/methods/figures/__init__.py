"""Figures of what a method computes for posts: graphs, maps of weights, points. They are plain data and arrays."""

MOST_CELLS = 10_000  # of a matrix
MOST_POINTS = 1_000
