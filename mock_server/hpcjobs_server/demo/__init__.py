"""``hpcjobs demo``: the whole service on a real program and a real earthquake record."""
