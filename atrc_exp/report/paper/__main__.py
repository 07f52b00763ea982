"""`python -m atrc_exp.report.paper`."""

from atrc_exp.report.paper.document import main

if __name__ == "__main__":
    main()
