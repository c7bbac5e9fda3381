"""Repositories on disk: workspaces, discovery, config, revisions, branches. No torch."""
