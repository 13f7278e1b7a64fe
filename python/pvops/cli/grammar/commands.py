"""The commands: what the help says of each, and an example; each is a module of this folder and one of `pvops.cli`."""

from __future__ import annotations

COMMANDS = {
    "sites": ("list every site the kernel may rewrite", "pvops sites /boot/vmlinuz-6.1.0-56-amd64"),
    "ops": ("show the ops structures", "pvops ops --era seed --config X86_PAE=y"),
    "explain": ("say what a site becomes, and why", "pvops explain vmlinuz _raw_spin_unlock --backend xen"),
    "disasm": ("show a function as it runs", "pvops disasm vmlinuz _raw_spin_unlock --backend native --backend kvm"),
    "patch": ("write the image as the kernel patches it", "pvops patch vmlinuz --machine guest.facts -o patched"),
    "diff": ("say what differs between two boots", "pvops diff vmlinuz native guest.facts --html diff.html"),
    "verify": ("explain a running kernel's text, byte for byte", "pvops verify vmlinuz guest.core --html report.html"),
    "volatility3": ("print where Volatility's plugins are, for vol -p", "pvops volatility3"),
    "corpus": ("hold a folder of kernels to their boots", "pvops corpus kernels --boots boots"),
    "machine": ("describe this machine or another", "pvops machine -o here.json"),
    "run": ("run guests in an emulator, below several hypervisors", "pvops run switch --era seed --html run.html"),
    "lock": ("the ticket lock: measured, simulated and model-checked", "pvops lock check --protocol pv-ticket"),
    "bench": ("measure what a call site costs on this CPU", "pvops bench --kernel vmlinuz --plot forms.svg"),
}
