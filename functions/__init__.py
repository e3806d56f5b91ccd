"""What happens: stateless functions, a subject per file. The rule stands on top, its door below."""
