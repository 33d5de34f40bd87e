"""`mnerkit reproduce`: experiment files become a grid of runs, runs are done, and what they found becomes tables.

`experiment_files.py` reads the files, `profiles.py` says at what size, `grid.py` makes runs and cells of both
(`cells.py`), `identity.py` tells one run from another, `sweep.py` does what is left through an executor
(`executors.py`, `local.py`), `tables.py` writes what the cells hold. Nothing
here imports torch; only the executor's processes do.
"""
