"""The tool: command line, workflow, run folder."""
