"""What happens: stateless functions, a subject per file. The rule is on top, its target below."""
