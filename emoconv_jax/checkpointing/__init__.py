"""Training state on disk, checked and atomic. The only package that knows Orbax."""
