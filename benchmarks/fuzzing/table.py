"""All readers of users' files."""

from __future__ import annotations

from fuzzing import (
    annotation_tools,
    caches,
    configs,
    corpus_tables,
    data_sets,
    foreign,
    forms,
    pictures,
    posts,
    released,
    runs,
    saved_models,
    weights,
)

READERS = (
    *posts.READERS,
    *annotation_tools.READERS,
    *corpus_tables.READERS,
    *pictures.READERS,
    *configs.READERS,
    *runs.READERS,
    *weights.READERS,
    *released.READERS,
    *foreign.READERS,
    *saved_models.READERS,
    *caches.READERS,
    *forms.READERS,
    *data_sets.READERS,
)
