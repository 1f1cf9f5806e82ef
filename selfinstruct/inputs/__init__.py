"""What a run is told: settings, prompts, prices, and rows of any file as tasks."""
