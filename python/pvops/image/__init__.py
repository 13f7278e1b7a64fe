"""What a file or a memory says, nothing decided: sites, ops, feature numbers, modules, memory."""
