"""What is kept, as others get it: exports, card, report, review, the Hub, and near-duplicates out of any file."""
