"""Machines that listen: the words, the naturalness, the voice. All are optional packages."""
