"""The command line: one module per command behind the entry point `emoconv`."""
