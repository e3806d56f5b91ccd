"""What a developer runs: the whole product on one machine, and the parts of it that Knative brings
elsewhere.
"""
