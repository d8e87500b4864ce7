"""What every certificate is as a document: its JSON, its fields, its checks."""
