"""All readers of users' files."""

from __future__ import annotations

from fuzzing import configs, foreign, pictures, posts, released, runs, weights

READERS = (
    *posts.READERS,
    *pictures.READERS,
    *configs.READERS,
    *runs.READERS,
    *weights.READERS,
    *released.READERS,
    *foreign.READERS,
)
