"""What a bundle of facts is collected from, and the shell script that collects one where no Python is."""

from __future__ import annotations

from pvops.machine.facts import COLLECTED, END, MARK

#: The files whose text decides, or tells, how a kernel rewrites itself.
FILES = (
    "/proc/version",
    "/proc/cmdline",
    "/proc/cpuinfo",
    "/sys/devices/system/clocksource/clocksource0/current_clocksource",
    "/sys/hypervisor/type",
    "/sys/hypervisor/guest_type",
    "/sys/devices/system/cpu/possible",
    "/sys/devices/system/cpu/present",
)

#: The folder of what the kernel says of each vulnerability.
VULNERABILITIES = "/sys/devices/system/cpu/vulnerabilities"

_SCRIPT = """\
#!/bin/sh
# Collects what decides how this machine's kernel rewrites itself, for `pvops ... --machine FACTS`. Run it as root, so
# that the kernel's log can be read:  sh collect.sh > guest.facts
# It reads the files named below, cpuid where that is installed, and the log; so it holds the command line and the log.
part() {{
    printf '%s%s\\n' '{mark}' "$1"
    cat
    echo
}}
file() {{
    if [ -r "$1" ]; then part "$1" < "$1"; else echo '(none)' | part "$1"; fi
}}
journal() {{
    journalctl -k -b -o short-monotonic
}}
whole() {{
    case $("$@" 2> /dev/null) in *'Linux version '*) "$@" 2> /dev/null ;; *) return 1 ;; esac
}}
echo 1 | part {collected}
for f in {files}; do file "$f"; done
for f in {vulnerabilities}/*; do [ -r "$f" ] && file "$f"; done
if command -v cpuid > /dev/null 2>&1; then cpuid -1 -r 2> /dev/null | grep '^ *0x' | part cpuid; fi
# The kernel's own log loses its start in time; the journal may have kept it.
{{ whole dmesg || whole journal || dmesg 2> /dev/null || journal 2> /dev/null || echo '(none)'; }} | part dmesg
echo '{end}'
"""


def script() -> str:
    """The script, for a POSIX shell."""
    return _SCRIPT.format(
        mark=MARK, collected=COLLECTED, files=" \\\n    ".join(FILES), vulnerabilities=VULNERABILITIES, end=END
    )
