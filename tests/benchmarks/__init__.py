"""Measures, each a figure that can be compared: a ratio to a baseline in the same run, or a time.

``python -m tests.benchmarks [NAME...] [--quick] [--json FILE] [--no-write]``. Every module beside this one but
``figures``, ``bench``, ``filled``, ``plans``, ``report`` and ``__main__`` is one measure. A goal that is missed is shown; nothing fails on it.
"""
