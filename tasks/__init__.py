"""The tasks of this project: ``python3 tasks.py help`` lists them.

A package of the standard library rather than nox, just or make: the first command of the README has to work on a
machine that has nothing but Python, Rust and a C compiler. A runner that must be installed first would be one more
thing to install, and on Debian 12 `pip install` outside a virtual environment is refused. So each task makes what it
needs (the environment in ``.venv``, the wheel in ``dist``), once, and again when the sources are not those it was made
from; where a tool is missing that it cannot make, it says in one line what to install.

Imports go down: `shell` ← `tools` ← `environment` ← `apt` ← `kernels`, `qemu` ← the tasks ← `__main__`.
"""
