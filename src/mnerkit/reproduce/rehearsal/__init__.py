"""Rehearsals of a sweep: two steps of every run that is distinct apart from its seed, and what the whole will take.

Nothing here is a result: a rehearsal has a folder of its own, which no table and no report reads.
"""
