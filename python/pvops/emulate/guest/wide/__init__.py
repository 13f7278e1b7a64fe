"""The guest of x86-64: a kernel with the ops of 2.6.33 or 3.12, user space of 64 and 32 bits, and a tour of all ops."""

from __future__ import annotations

#: What it is called, and which kernels it has.
NAME = "tour64"
ERAS = ("2.6.33", "3.12")
