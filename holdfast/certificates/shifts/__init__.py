"""What holds at an attacked input, given what was seen at the clean one."""
