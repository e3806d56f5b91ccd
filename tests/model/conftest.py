"""The option for long runs."""


def pytest_addoption(parser):
    parser.addoption(
        "--steps", type=int, default=0, help="so many steps of the model instead of the usual ones"
    )
