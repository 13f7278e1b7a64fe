"""What a guest and its host share: numbers of hypercalls, and the structures both read; one file a hypervisor."""
