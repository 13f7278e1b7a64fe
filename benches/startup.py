"""What a command costs from start to end, beside what Python alone costs, in one run.

    python benches/startup.py [VMLINUX]

Processor time (user and system) of whole processes, the least of several rounds that alternate between the commands,
so that what else the machine does counts little. VMLINUX is an uncompressed image with paravirt sites; without one, a
sample is built.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

from support.rounds import LIMIT, OURS, report

ROUNDS = 15


def cpu_seconds(command: list[str]) -> float:
    """Processor time of one run, its output read from a pipe."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measures and prints."""
    with tempfile.TemporaryDirectory() as folder:
        image = sys.argv[1] if len(sys.argv) > 1 else os.path.join(folder, "vmlinux")
        if len(sys.argv) < 2:
            subprocess.run([sys.executable, "-m", "pvops.sample", image], check=True, stdout=subprocess.DEVNULL)
        pvops = [sys.executable, "-m", "pvops"]
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "pvops --help": [*pvops, "--help"],
            "pvops sites --table paravirt --no-names": [*pvops, "sites", image, "--table", "paravirt", "--no-names"],
            "pvops sites --table paravirt": [*pvops, "sites", image, "--table", "paravirt"],
        }
        least = dict.fromkeys(commands, float("inf"))
        for _ in range(ROUNDS):
            for name, command in commands.items():
                least[name] = min(least[name], cpu_seconds(command))
    print(f"processor time, least of {ROUNDS} rounds; {os.path.basename(image)}")
    report("start to end", least, {name: OURS if name.startswith("pvops") else LIMIT for name in least})


if __name__ == "__main__":
    main()
