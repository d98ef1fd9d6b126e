"""The figures of the paper: what each shows, as a spec with the function that draws it."""
