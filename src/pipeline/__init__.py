"""What runs the notebooks and publishes them; nothing here changes a number."""
