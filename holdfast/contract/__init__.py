"""The REST contract (v1): requests, answers and problems, shared by server and SDK."""
