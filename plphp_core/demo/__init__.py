"""The demo: every method's answer to the same question about the same images, side by side in a browser.

`server` starts it, `gradio_app` lays out the page, `demo_session` holds the loaded model; the rest is what they show.
"""
