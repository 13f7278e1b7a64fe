"""``python3 tasks.py TASK`` runs a task of the package ``tasks``, which an import finds before this file."""

from tasks.__main__ import main

if __name__ == "__main__":
    main()
