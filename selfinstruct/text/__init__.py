"""What texts are, whoever wrote them: words, what may be shown, many held end to end, files written whole."""
