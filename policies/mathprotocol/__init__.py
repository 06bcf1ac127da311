"""The code protocol: requests and answers that a program can check. Standard library only."""
