"""All readers of users' files."""

from __future__ import annotations

from fuzzing import annotation_tools, configs, foreign, pictures, posts, released, runs, weights

READERS = (
    *posts.READERS,
    *annotation_tools.READERS,
    *pictures.READERS,
    *configs.READERS,
    *runs.READERS,
    *weights.READERS,
    *released.READERS,
    *foreign.READERS,
)
