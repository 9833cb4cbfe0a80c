"""Fine-tuning through the transformers Trainer: examples, one or several processes, checkpoints."""
