"""The networks: tensors in, tensors out. Knows no prompts, pictures or users."""
