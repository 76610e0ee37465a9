"""Training state on disk. The only package that knows Orbax."""
