"""The page and the API, on Gradio. The only room that imports it."""
