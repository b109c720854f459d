"""Diffusers pipelines, one task a file, imported as `videogen.pipelines`."""

if __name__ == "pipelines":
    raise ImportError(
        "`pipelines` is imported as `videogen.pipelines`: "
        "under its bare name every class in it would exist twice"
    )
