"""Thin commands over the rooms: ``python -m magicmirror <command>``."""
