"""Faces: a picture in, ``FaceReference`` values out; knows no video model."""
