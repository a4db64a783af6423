"""How to submit a job again: the Python and the shell that ask for the same.

Both are made of what the service says was asked. What does not fit into them is said in comments: files that must be
there, a function whose code is not known here. Nothing is left out silently.
"""

from __future__ import annotations

from hpcjobs.again.python import as_python
from hpcjobs.again.shell import as_shell

__all__ = ["as_python", "as_shell"]
