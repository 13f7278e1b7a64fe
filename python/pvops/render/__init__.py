"""Pages: what the commands say, as self-contained HTML."""
