"""A service of one's own, where there cannot be one; it is tested for real in tests/integration/test_testing.py."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from hpcjobs import NoService
from hpcjobs.testing import local_service


def test_without_the_server_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(NoService, match=r"pip install 'hpcjobs\[server\]'"), local_service():
        pass


def test_a_classroom_needs_no_pytest_and_hpcjobs_itself_never_imports_it() -> None:
    code = (
        "import sys; import hpcjobs.client, hpcjobs.tapis_style; assert 'pytest' not in sys.modules;"
        "sys.modules['pytest'] = None; import hpcjobs.testing as made;"
        "assert made.local_service and not hasattr(made, 'hpcjobs_client')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
