"""`mnerkit reproduce`: experiment files become a grid of runs, the runs are done, and their figures become tables.

`experiments/` reads experiments, profiles and printed figures; `grid.py` makes runs and cells of them (`cells.py`);
`sweep.py` does what is left through an executor (`executors/`: processes of this machine, or a Ray cluster), whose
processes train the runs (`training.py`); `run_archive.py` keeps finished runs in small files; `table_records.py` writes
what the cells hold; `wandb_files.py` and `wandb_report.py` write what Weights & Biases reads. Nothing here imports
torch; only the processes of an executor do.
"""
