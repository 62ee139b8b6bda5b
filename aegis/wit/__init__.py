"""The types of WIT, their Python names and classes, readers and writers for WIT and WAVE."""
