"""The same program with different numbers of threads."""

import subprocess
import sys
from pathlib import Path


def outputs_by_threads(program: str, folder: Path) -> set[str]:
    """What a Python program, given the number of threads as its argument, prints last for 1, 2 and 7 threads."""
    script = folder / "program.py"
    script.write_text(program)
    return {
        subprocess.run(
            [sys.executable, str(script), str(threads)], check=True, capture_output=True, text=True
        ).stdout.split()[-1]
        for threads in (1, 2, 7)
    }
