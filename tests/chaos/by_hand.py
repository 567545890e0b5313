"""For what is run by hand in this folder: `import by_hand` before the rest finds `jobs`, `web` and the modules of tests/."""

import os
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
PYTHONPATH = os.pathsep.join(map(str, (ROOT, TESTS, TESTS / "chaos")))
sys.path[:0] = [str(TESTS), str(ROOT)]
