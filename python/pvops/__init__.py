"""pvops: what Linux's paravirt patching does to kernel text, reproduced offline, byte for byte."""
