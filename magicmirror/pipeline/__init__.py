"""The paper as code: condition, prepare, denoise, decode; and the profiles that put the parts together."""
