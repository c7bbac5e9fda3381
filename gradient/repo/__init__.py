"""What is a repository on disk? Workspace, discovery, config, revisions, lines. No torch."""
