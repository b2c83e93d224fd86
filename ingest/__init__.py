"""Bytes to passages: readers per format, the splitter and the pipeline that commits them."""
