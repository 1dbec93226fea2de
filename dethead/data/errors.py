"""The error of everything that reads data."""


class DataError(ValueError):
    """A data set holds what cannot be meant: names the file, the image or annotation id and the value."""
