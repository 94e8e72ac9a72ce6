"""The main job, told on a fresh database and checked while it is told."""
