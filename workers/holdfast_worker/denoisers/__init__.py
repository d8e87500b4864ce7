"""What stands before and behind an encoder to make its features hold still under noise; all of it part of f."""
