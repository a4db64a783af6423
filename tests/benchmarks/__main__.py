"""``python -m tests.benchmarks``: run measures and show their figures."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import signal
import sys
from pathlib import Path

from tests import benchmarks
from tests.benchmarks import report
from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import Figure

_HELPERS = {"__main__", "bench", "figures", "filled", "plans", "report"}


def measures() -> list[str]:
    """The names of all measures."""
    return [module.name for module in pkgutil.iter_modules(benchmarks.__path__) if module.name not in _HELPERS]


def main(arguments: list[str] | None = None) -> int:
    """Run what is asked for; 0 whatever the figures are."""
    names = measures()
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"a measure: {', '.join(names)}; all of them unless some are named")
    parser.add_argument("--quick", action="store_true", help="few rounds: to see that it works, not for the figures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well; - for stdout")
    parser.add_argument("--no-write", action="store_true", help="leave docs/benchmarks.md as it is after a full run")
    asked = parser.parse_args(arguments)
    if unknown := sorted(set(asked.name) - set(names)):
        parser.error(f"there is no measure {', '.join(unknown)}; there are {', '.join(names)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a server never outlives its measure
    figures: list[Figure] = []
    with Bench(quick=asked.quick) as bench:
        for name in asked.name or names:
            sys.stderr.write(f"{name}\n")
            figures += importlib.import_module(f"tests.benchmarks.{name}").run(bench)
    if str(asked.json) == "-":
        sys.stdout.write(report.for_programs(figures) + "\n")
        return 0
    sys.stdout.write(report.for_terminal(figures) + "\n")
    if asked.json is not None:
        asked.json.write_text(report.for_programs(figures) + "\n")
    if not (asked.name or asked.quick or asked.no_write):
        written = report.write_document(figures)
        sys.stdout.write(f"\nthe figures {'are' if written else 'find no place'} in {report.DOCUMENT}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
