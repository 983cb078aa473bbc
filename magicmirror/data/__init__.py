"""Data: manifests, portrait animation, captions, precomputed latents, datasets."""
