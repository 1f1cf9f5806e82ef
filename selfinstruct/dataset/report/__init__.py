"""A run as one HTML page: what is in it, how diverse it is, how it was filtered, what it cost, and its samples.

`figures` counts, `words` finds verbs and their nouns, `rows` packs the samples, `page` puts them together with what
lies in `assets/`.
"""
