"""The demo: every method's answer to the same question about the same images, side by side in a browser.

`gradio_app` draws the page with Gradio; nothing else here needs it.
"""
