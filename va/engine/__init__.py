"""Where work runs: in this process, or as tasks on Ray. Stages know what the work is; this package does not."""
