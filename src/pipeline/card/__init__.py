"""The report card of fine-tunes: ``python -m pipeline.card``, from folders, hub ids and adapters to one page."""
