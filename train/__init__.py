"""The training loop, its objectives and its recipes, imported as `videogen.train`."""

if __name__ == "train":
    raise ImportError(
        "`train` is imported as `videogen.train` (and run as `python -m videogen.train`): "
        "under its bare name every class in it would exist twice"
    )
