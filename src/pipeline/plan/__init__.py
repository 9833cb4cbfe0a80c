"""What a study takes before it runs."""
