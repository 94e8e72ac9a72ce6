"""Deadlines, forks, tracebacks and progress: conditions of a process that hold in every layer."""
