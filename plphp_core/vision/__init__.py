"""Images on their way to the processor, and where vision tokens lie on them."""
